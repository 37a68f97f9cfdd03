package luabridge

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/passdb"
)

func TestUtil(t *testing.T) {
	t.Setenv("USHER_TEST_SITE", "north")
	t.Setenv("USHER_TEST_HIDDEN", "x")
	env := func(o *Options) { o.Deps.Env = []string{"USHER_TEST_SITE"} }
	ask(t, `
		local u = require("nauthilus_util")
		assert(u.getenv("USHER_TEST_SITE", "d") == "north" and nauthilus_cache.cache_get("env:USHER_TEST_SITE") == "north")
		assert(u.getenv("USHER_TEST_HIDDEN", "d") == "d" and nauthilus_cache.cache_get("env:USHER_TEST_HIDDEN") == "d")
		nauthilus_cache.cache_set("env:USHER_TEST_SITE", request.username)
		assert(u.getenv("USHER_TEST_SITE", "d") == "north", "a user's words for a variable")
		assert(u.get_redis_key(request, "k") == "usher:k" and u.get_redis_key(nil, "k") == "k" and u.get_redis_key({}, "k") == "k")
		assert(u.exists_in_table({a = "x"}, "x") and not u.exists_in_table({"x"}, "y"))
		assert(u.table_length({1, a = 2}) == 2 and u.table_length({}) == 0)
		assert(u.is_table({}) and u.is_string("") and u.is_number(0/0) and not u.is_number("1"))
		assert(u.generate_random_string(64):match("^%w+$") and #u.generate_random_string(64) == 64)
		assert(u.generate_random_string(-1) == "" and u.generate_random_string(8) ~= u.generate_random_string(8))
		for _, no in ipairs({"", "0", "false", "FALSE"}) do assert(u.toboolean(no) == false) end
		for _, yes in ipairs({"1", "no", "true", "falsey"}) do assert(u.toboolean(yes) == true) end
		for _, fine in ipairs({false, "redis: nil", "OK"}) do u.if_error_raise(fine) end
		u.if_error_raise(nil)
		local ok, err = pcall(u.if_error_raise, "away")
		assert(not ok and err == "away")
		assert(u.get_current_timestamp():match("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d [+-]%d%d:%d%d$"))
		for _, ip in ipairs({"0.1.1.1", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.31.0.1", "192.0.0.1", "192.0.2.1",
			"192.88.99.1", "192.168.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255", "fc00::1", "fe80::1%eth0", "::",
			"::1", "::ffff:10.0.0.1", "", "x"}) do assert(not u.is_routable_ip(ip), ip) end
		for _, ip in ipairs({"9.9.9.9", "172.32.0.1", "100.128.0.1", "2606:4700::1"}) do assert(u.is_routable_ip(ip), ip) end
		local line = {a = 1}
		u.log_error(request, line, "away")
		assert(line.level == "error" and #line.ts == 26)`, query("alice"), env)
}

func TestSmallModules(t *testing.T) {
	ask(t, `
		assert(nauthilus_keys.account_tag("") == "" and nauthilus_keys.account_tag("alice") == "{acm-6384e2b2184bcbf58eccf10ca7a6563c}")
		local misc, pw, otel = nauthilus_misc, nauthilus_password, nauthilus_opentelemetry
		assert(misc.get_country_name("de") == "Germany" and misc.get_country_name("XX") == "Unknown" and misc.get_country_name("") == "Unknown")
		assert(misc.wait_random("1", 2) == 1)
		for _, bad in ipairs({{1, 1}, {2, 1}, {-1, 1}, {0/0, 1}, {1, 1e300}}) do
			local ms, err = misc.wait_random(bad[1], bad[2])
			assert(ms == nil and err == "invalid wait range")
		end
		assert(misc.scoped_ip("ctx", "192.0.2.1") == "192.0.2.1" and misc.scoped_ip("x") == "x")
		assert(pw.check_password_policy({min_length = 4, min_upper = 1, min_lower = 1, min_number = 1, min_special = 1}, "aB1!"))
		assert(not pw.check_password_policy({min_special = 1}, "aB1") and pw.check_password_policy({min_length = 4}, "\195\164\195\164") and not pw.check_password_policy({min_number = 1}, "\194\189"))
		assert(pw.generate_password_hash("a"):match("^%x%x%x%x%x%x%x%x$") and pw.generate_password_hash("a") ~= pw.generate_password_hash("b"))
		local ok, err = pw.compare_passwords("{NONE}x", "y")
		assert(ok == false and err and not err:find("x}", 1, true))
		ok, err = pw.compare_passwords("{PLAIN}a", ("a"):rep(5000))
		assert(ok == false and err == "a password or hash of over 4096 bytes")
		assert(pw.compare_passwords("{PLAIN}a", "a") == true)
		local equal, err = pw.compare_passwords("$6$rounds=1000000$saltsalt$" .. ("a"):rep(86), ("x"):rep(1025))
		assert(equal == false and err == "a password of 1025 bytes; a slow hash is made of at most 1024", err)
		assert(otel.is_enabled() == false and next(otel.baggage_all()) == nil and type(otel.semconv.db_attrs({})) == "table")
		local a, b = otel.tracer("t"):with_span("s", function(span) span:set_attribute("k", 1) span["end"](span) span:finish() return 1, 2 end)
		assert(a == 1 and b == 2)
		nauthilus_psnet.register_connection_target("x", "remote", "y")
		for _, name in ipairs({"mail", "ldap", "soft_whitelist", "brute_force"}) do assert(next(require("nauthilus_" .. name)) == nil) end`,
		query("alice"), func(o *Options) { o.Deps.Workers = passdb.NewWorkers() })
	for statement, want := range map[string]string{
		`nauthilus_util.generate_random_string(1e9)`:              "bad argument #1 to generate_random_string: 1000000000 bytes, at most 4096",
		`nauthilus_util.generate_random_string(0/0)`:              "at most 4096",
		`nauthilus_util.toboolean(nil)`:                           "bad argument #1 to toboolean",
		`nauthilus_misc.wait_random("soon", 1)`:                   "bad argument #1 to wait_random",
		`nauthilus_opentelemetry.default_tracer():with_span("x")`: "with_span",
		`local t = {} local a, b = ("x"):rep(1e6) .. "a", ("x"):rep(1e6) .. "b" for i = 1, 1000 do t[i] = a end nauthilus_util.exists_in_table(t, b)`: "budget of steps",
	} {
		if strings.Contains(want, "budget") {
			if fault := askFault(t, newDirector(t, inFilter(statement)), query("alice")); !strings.Contains(fault.Error(), want) {
				t.Errorf("%s\n got %v\nwant %s", statement, fault, want)
			}
			continue
		}
		if got := luaError(t, statement); !strings.Contains(got, want) {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// seriesOf counts the series of a metric.
func seriesOf(t *testing.T, r *prometheus.Registry, name string) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return len(f.GetMetric())
		}
	}
	return 0
}

func TestPrometheus(t *testing.T) {
	r := prometheus.NewRegistry()
	prom := modules.NewPrometheus(r)
	with := func(o *Options) { o.Deps.Prom = prom; o.Limits.Steps = 1e7; o.Limits.Memory = 64 << 20 }
	dry := query("alice")
	dry.DryRun = true
	ask(t, `nauthilus_prometheus.create_counter_vec("dry", "h", {}) nauthilus_prometheus.stop_timer(nauthilus_prometheus.start_summary_timer("dry"))`, dry, with)
	ask(t, `
		local p = nauthilus_prometheus
		for i = 1, 2 do p.create_counter_vec("c", "h", {"a", "b"}) end
		p.increment_counter("c", {a = "x", b = "y"})
		p.increment_counter("c", {"x", "y"})
		p.increment_counter("nothing", {})
		assert(p.start_histogram_timer("nothing", {}) == nil)
		p.stop_timer(nil)`, query("alice"), with)
	if got := seriesOf(t, r, "c"); got != 1 {
		t.Errorf("%d series of c", got)
	}
	if seriesOf(t, r, "dry") != 0 {
		t.Error("a dry run left a metric")
	}
	// NUL bytes make no two sets of values look like one.
	ask(t, `
		local p = nauthilus_prometheus
		p.create_counter_vec("nul", "h", {"a", "b"})
		for n = 1, 60 do for i = 0, n do p.increment_counter("nul", {("\0"):rep(i), ("\0"):rep(n - i)}) end end`, query("alice"), with)
	if got := seriesOf(t, r, "nul"); got != 1000 {
		t.Errorf("%d series, want 1000", got)
	}
	for statement, want := range map[string]string{
		`nauthilus_prometheus.create_counter_vec("usher_x", "h", {})`:                                             "usher's own",
		`nauthilus_prometheus.create_counter_vec("a b", "h", {})`:                                                 "bad name",
		`nauthilus_prometheus.create_counter_vec("x", ("h"):rep(2000), {})`:                                       "a help text of 2000 bytes",
		`nauthilus_prometheus.create_gauge_vec("c", "h", {"a", "b"})`:                                             "there already",
		`nauthilus_prometheus.increment_counter("c", {"x"})`:                                                      "1 labels of c are given",
		`nauthilus_prometheus.increment_counter("c", {"x", "y", "z"})`:                                            "is no label of c",
		`nauthilus_prometheus.increment_counter("c", {"x", a = "y"})`:                                             "label a of c is given twice",
		`nauthilus_prometheus.create_counter_vec("go_x", "h", {})`:                                                "the program's own",
		`nauthilus_prometheus.create_histogram_vec("x", "h", {"le"})`:                                             "a label le of its own",
		`nauthilus_prometheus.create_summary_vec("x", "h", {"quantile"})`:                                         "a label quantile of its own",
		`local p = nauthilus_prometheus p.create_histogram_vec("hx", "h") p.create_counter_vec("hx_bucket", "h")`: `"hx_bucket" would have a name in common with the histogram "hx"`,
		`local p = nauthilus_prometheus p.create_gauge_vec("sx_sum", "h") p.create_summary_vec("sx", "h")`:        `"sx" would have a name in common with the gauge "sx_sum"`,
		`nauthilus_prometheus.stop_timer(1)`:                                                                      "bad argument #1 to stop_timer",
	} {
		if got := luaError(t, statement, with); !strings.Contains(got, want) {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	// Last, since then there is room for none.
	if got := luaError(t, `for i = 1, 300 do nauthilus_prometheus.create_counter_vec("m" .. i, "h", {}) end`, with); !strings.Contains(got, "at most") {
		t.Error(got)
	}
}

// asNginx is a query as nginx makes it.
func asNginx() *proxy.Query {
	q := query("alice")
	q.Request.Adapter, q.Request.URI = "nginx", "/auth?site=north"
	q.Request.Headers = map[string][]string{"X-Site": {"a", "b"}}
	return q
}

func TestHTTPRequest(t *testing.T) {
	ask(t, `
		local h = nauthilus_http_request
		assert(h.get_http_request_header("x-nauthilus-SERVICE")[1] == "Dovecot")
		assert(h.get_all_http_request_headers()["x-dovecot-proxy-target"][1] == "192.0.2.7:4711")
		assert(#h.get_http_request_header(("x"):rep(1e5)) == 0 and h.get_http_method() == "")`, query("alice"))
	ask(t, `
		local h = nauthilus_http_request
		assert(#h.get_http_request_header("x-site") == 2 and #h.get_http_request_header("X-Nauthilus-Service") == 0)
		assert(h.get_http_method() == "GET" and h.get_http_path() == "/auth" and h.get_http_query_param("site") == "north")
		assert(h.get_http_query_param("none") == "" and h.get_http_request_body() == "")`, asNginx())
}

func TestHTTPResponse(t *testing.T) {
	body := `
		local h = nauthilus_http_response
		h.set_http_response_header("x-site", "north") h.add_http_response_header("X-Site", 1) h.remove_http_response_header("X-Old")
		h.set_http_content_type("text/plain") h.set_http_status(h.STATUS_FORBIDDEN)`
	if v := ask(t, body, query("alice")); len(v.Header) != 0 {
		t.Errorf("Dovecot got %v", v.Header)
	}
	if v := ask(t, body, asNginx()); fmt.Sprint(v.Header) == "[]" || len(v.Header) != 4 || v.Header[0].Name != "X-Site" {
		t.Errorf("nginx got %v", v.Header)
	}
	for _, args := range []string{
		`"Auth-Server", "x"`, `"aUTH-status", "OK"`, `"Content-Length", "1"`, `"Transfer-Encoding", "chunked"`, `"Connection", "close"`,
		`"Proxy-Connection", "x"`, `"Date", "x"`, `"X: y", "z"`, `"", "x"`, `"X", "a\r\nAuth-Status: OK"`, `"X", "\0"`, `"X", ("x"):rep(1e4)`,
	} {
		v := ask(t, `assert(not pcall(nauthilus_http_response.set_http_response_header, `+args+`))
			assert(not pcall(nauthilus_http_response.html, "x"))`, asNginx())
		if len(v.Header) != 0 {
			t.Errorf("%s: %v", args, v.Header)
		}
	}
}

// No label of a metric is somebody's password.
func TestPrometheus_Secret(t *testing.T) {
	r := prometheus.NewRegistry()
	d := newDirector(t, "", func(o *Options) {
		o.Deps.Prom = modules.NewPrometheus(r)
		o.Filters = []Filter{{Name: "f", Path: "f.lua", WhenAuthenticated: true, NeedsPassword: true, Text: inFilter(`
			nauthilus_prometheus.create_counter_vec("c", "of " .. request.password, {"l"})
			nauthilus_prometheus.increment_counter("c", {l = request.password})`)}}
	})
	direct(t, d, query("alice"))
	all, err := r.Gather()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if got := all[0].String(); strings.Contains(got, "s3cret") || !strings.Contains(got, "********") {
		t.Error(got)
	}
}

// Where there is no place to hash a password nobody says that it is wrong.
func TestPassword_Overload(t *testing.T) {
	w := passdb.NewWorkers()
	free, all := make(chan struct{}), sync.WaitGroup{}
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() { _ = w.Do(t.Context(), func() { <-free }) })
	}
	time.Sleep(20 * time.Millisecond)
	d := newDirector(t, inFilter(`
		if not nauthilus_password.compare_passwords("$6$saltsalt$" .. ("a"):rep(86), "x") then usher.deny() end`),
		func(o *Options) { o.Deps.Workers, o.Limits.Time = w, 200*time.Millisecond })
	if fault := askFault(t, d, query("alice")); !strings.Contains(fault.Error(), "too many passwords to hash") {
		t.Error(fault)
	}
	close(free)
	all.Wait()
}

// A default that getenv kept is forgotten at a reload: director.env may name less.
func TestGetenv_Reload(t *testing.T) {
	t.Setenv("USHER_TEST_SITE", "north")
	store := modules.NewStore()
	site := func(env ...string) string {
		t.Helper()
		return ask(t, `nauthilus_cache.cache_set("other", 1)
			nauthilus_builtin.custom_log_add("site", nauthilus_util.getenv("USHER_TEST_SITE", "none"))`, query("alice"),
			func(o *Options) { o.Deps.Cache, o.Deps.Env = store, env }).Logs[0].Value
	}
	before, named, kept := site(), site("USHER_TEST_SITE"), site()
	store.ForgetEnv()
	if after := site(); before != "none" || named != "north" || kept != "north" || after != "none" || store.Len() != 2 {
		t.Errorf("%s, %s, %s, %s, %d entries", before, named, kept, after, store.Len())
	}
}
