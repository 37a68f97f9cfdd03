package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"usher/test/servers"
)

// scriptFor is a policy that sends everybody to host.
func scriptFor(host string) string {
	return fmt.Sprintf(`
local backend = require("nauthilus_backend")

function nauthilus_call_filter(request)
  for _, server in ipairs(backend.get_backend_servers()) do
    if server.protocol == request.protocol and server.host == %q then
      backend.select_backend_server(server.host, server.port)
    end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
`, host)
}

func TestReload(t *testing.T) {
	t.Parallel()
	script := filepath.Join(servers.Dir(t), "policy.lua")
	servers.WriteFile(t, scriptFor(hosts[0]), script)
	r := newRig(t, rigOptions{script: script})

	// Clients log in all the time, one login after the other, while the script
	// changes: each ends at one of the hosts.
	t.Run("LosesNoLogin", func(t *testing.T) {
		done := make(chan struct{})
		var logins atomic.Int64
		jobs := []func(){func() {
			defer close(done)
			for n := 1; n <= 10; n++ {
				host := hosts[n%2]
				servers.WriteFile(t, scriptFor(host), script)
				r.usher.Reload()
				r.waitBackend(t, host)
			}
		}}
		for _, f := range r.fronts {
			for _, protocol := range f.protocols() {
				jobs = append(jobs, func() {
					for n := 0; running(done); n++ {
						c := servers.Dial(t, protocol, f.addr[protocol])
						if reply := c.Login(user("two", n%8), password); !c.OK(reply) {
							t.Errorf("%s %s: login %d: %s", f.name, protocol, n, reply)
							return
						}
						c.Close()
						logins.Add(1)
					}
				})
			}
		}
		together(jobs...)
		t.Logf("%d logins during 10 reloads", logins.Load())
	})

	t.Run("BrokenScriptKeepsTheOld", func(t *testing.T) {
		servers.WriteFile(t, scriptFor(hosts[1]), script)
		if _, stderr, status := r.usher.Run(t, "reload"); status != 0 {
			t.Fatalf("usher reload: status %d: %s", status, stderr)
		}
		servers.WriteFile(t, "function nauthilus_call_filter(request)\n  return = 1\nend\n", script)

		_, stderr, status := r.usher.Run(t, "reload")
		if status != 1 || !strings.Contains(stderr, script) {
			t.Errorf("usher reload: status %d, want 1; it should name %s: %s", status, script, stderr)
		}
		from := r.usher.Log.Len()
		r.usher.Reload()
		r.usher.Logged(t, from, "an error that names the script", func(line string) bool {
			return strings.Contains(line, `"level":"error"`) && strings.Contains(line, script)
		})
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), hosts[1])
		})
	})

	t.Run("BrokenConfigKeepsTheOld", func(t *testing.T) {
		servers.WriteFile(t, scriptFor(hosts[0]), script)
		r.usher.Reconfigure(t, strings.Replace(r.yaml, "failure_delay:", "failure_dellay:", 1))
		_, stderr, status := r.usher.Run(t, "reload")
		if status != 1 || !strings.Contains(stderr, "failure_dellay") || !strings.Contains(stderr, "failure_delay") {
			t.Errorf("usher reload: status %d, want 1; it should name the key and the nearest: %s", status, stderr)
		}
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), hosts[1])
		})
	})
}

// waitBackend logs in until it gets to host: a reload says nothing on success
// but by what it does.
func (r *rig) waitBackend(t *testing.T, host string) {
	t.Helper()
	addr := r.fronts[0].addr["imap"]
	for range 500 {
		c := servers.Dial(t, "imap", addr)
		if reply := c.Login(user("three", 0), password); !c.OK(reply) {
			t.Fatal(reply)
		}
		got := c.Backend()
		c.Close()
		if got == host {
			return
		}
	}
	t.Fatalf("logins still do not get to %s after the reload", host)
}

func running(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}
