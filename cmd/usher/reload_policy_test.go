package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// A site with all kinds of scripts, in dir.
func policySite(t *testing.T, dir string) (sock, yaml string) {
	t.Helper()
	redis := miniredis.RunT(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "192.0.2.1") }))
	t.Cleanup(web.Close)
	sock = filepath.Join(dir, "n.sock")
	for name, text := range map[string]string{
		"m.map": "alice north\n",
		"init.lua": fmt.Sprintf(`function nauthilus_run_hook()
			assert(nauthilus_redis.register_redis_pool("other", "standalone", {address = %q}))
			assert(nauthilus_redis.redis_upload_script("default", "return ARGV[1]", "echo"))
		end`, redis.Addr()),
		"feature.lua": `function nauthilus_call_feature(request)
			assert(nauthilus_redis.redis_incr((nauthilus_redis.get_redis_connection("other")), "logins"))
			return false, false, 0
		end`,
		"users.lua": `function nauthilus_backend_verify_password(request)
			local b = nauthilus_backend_result.new()
			b:user_found(true) b:authenticated(request.password == "secret") b:account_field("a") b:attributes({a = request.username})
			return 0, b
		end`,
		"route.lua": fmt.Sprintf(`function nauthilus_call_filter(request)
			assert(usher.map("m.map"):get("alice") == "north")
			local answer = require("glua_http").get(%q)
			local host = answer and nauthilus_redis.redis_run_script("default", "", "echo", {}, {answer.body})
			if host then nauthilus_backend.select_backend_server(host, 143) end
		end`, web.URL),
	} {
		write(t, filepath.Join(dir, name), text)
	}
	return sock, fmt.Sprintf(`nginx: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
director:
  network: true
  features: [{name: feature, script: %[2]s/feature.lua}]
  filters: [{name: route, script: %[2]s/route.lua, when_authenticated: true}]
  init: [%[2]s/init.lua]
redis: {addresses: ["%[3]s"]}
passdb: [{driver: lua, script: %[2]s/users.lua}]
affinity: {mode: "off"}
`, sock, dir, redis.Addr())
}

// What reloads leave of pools, connections, maps and goroutines does not grow.
func TestReload_LeaksNothing(t *testing.T) {
	dir := shortDir(t)
	sock, yaml := policySite(t, dir)
	a := runApp(t, dir, yaml)
	login := func() {
		t.Helper()
		if host, err := authServer(sock); err != nil || host != "192.0.2.1" {
			t.Fatalf("login: %q, %v", host, err)
		}
	}
	login()
	count := func() (goroutines, files int) {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return runtime.NumGoroutine(), len(list)
	}
	goroutines, files := count()
	for i := range 50 {
		write(t, a.source, yaml+fmt.Sprintf("failure_delay: %dms\n", i+1))
		if err := a.Reload(false); err != nil {
			t.Fatal(err)
		}
		login()
	}
	const slack = 8 // a connection that is just ending, and the like
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		g, f := count()
		if g <= goroutines+slack && f <= files+slack {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("after 50 reloads %d goroutines, %d files; before %d and %d\n%s", g, f, goroutines, files, buf[:runtime.Stack(buf, true)])
		}
	}
}

// A script that is broken, of whatever kind, changes nothing.
func TestReload_BrokenScripts(t *testing.T) {
	dir := shortDir(t)
	sock, yaml := policySite(t, dir)
	a := runApp(t, dir, yaml)
	for _, name := range []string{"feature.lua", "init.lua", "users.lua", "route.lua"} {
		good, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range []string{"function (", "error('away')", "x = 1", "require('nothing_of_that_name')", "string.rep('x', 2^40)", "while true do end"} {
			before := a.gen.Load()
			write(t, filepath.Join(dir, name), broken)
			if err := a.Reload(false); err == nil || !strings.Contains(err.Error(), name) || a.gen.Load() != before {
				t.Errorf("%s, %q: the reload says %v", name, broken, err)
			}
			if host, err := authServer(sock); err != nil || host != "192.0.2.1" {
				t.Fatalf("%s, %q: login: %q, %v", name, broken, host, err)
			}
		}
		write(t, filepath.Join(dir, name), string(good))
	}
	write(t, filepath.Join(dir, "init.lua"), `function nauthilus_run_hook() error("away") end`)
	if err := a.Reload(false); err != nil {
		t.Errorf("an init script that raises: %v", err)
	}
	if status, err := authHTTP(sock); err != nil || !strings.HasPrefix(status, "[UNAVAILABLE]") {
		t.Errorf("without what the init script makes: %q, %v; want a temporary failure", status, err)
	}
}
