package test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"usher/test/servers"
)

// Clients whose names make a careless policy use its whole budget are told to
// try later, and nobody else is.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	backend := servers.StartDovecotBackend(t, "127.0.0.2", people, nil)
	_, imap, err := net.SplitHostPort(backend.Addr["imap"])
	if err != nil {
		t.Fatal(err)
	}
	standalone := servers.StartDovecotProxy(t, "127.0.0.1", nil)
	authHTTP := servers.Addr(t, "127.0.0.1")
	u := servers.StartUsher(t, fmt.Sprintf(`failure_delay: 0s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap]}
dovecot:
  listeners:
    - {address: "unix:%s", kind: auth}
director: {script: %q, timeout: 30s}
backend_server_monitoring:
  interval: 1s
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %s}
`, authHTTP, standalone.Sock, testdata(t, "hostile.lua"), imap))
	fronts := map[string]string{servers.DovecotVersion(t) + "_Standalone": standalone.Addr["imap"]}
	if !servers.OnlyDovecot() {
		fronts["Nginx"] = servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"}).Addr["imap"]
	}

	for name, addr := range fronts {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			var attacks atomic.Int64
			attack := func(user, budget string) func() {
				return func() {
					for running(done) {
						c := servers.Dial(t, "imap", addr)
						expect(t, "imap", c.Login(user, "guessed"), temporary)
						d := u.Decided(t, c.IP)
						if d.Outcome != "tempfail" || d.Reason != "policy_budget" || !strings.Contains(d.Error, "hostile.lua:") || !strings.Contains(d.Error, budget) {
							t.Errorf("decision %+v", d)
						}
						c.Close()
						attacks.Add(1)
					}
				}
			}
			together(attack(strings.Repeat("a", 255), "director.steps"), attack(strings.Repeat("a.", 100)+"org", "director.steps"),
				attack("grow@example.org", "director.memory"), func() {
					defer close(done)
					for n := range 40 {
						expectBackend(t, servers.Dial(t, "imap", addr), user("two", n%8), "127.0.0.2")
					}
				})
			t.Logf("%d attacks during 40 logins", attacks.Load())
			if attacks.Load() == 0 {
				t.Error("nobody attacked")
			}
		})
	}
	for _, line := range u.Log.Lines(0) {
		if strings.Contains(line, "guessed") {
			t.Errorf("a password is in usher's log: %s", line)
		}
	}
	metrics := u.Get(t, "/metrics")
	for _, want := range []string{`usher_policy_steps_bucket{le="+Inf"}`, `usher_policy_failing{policy="hostile"} `, `usher_policy_errors_total{kind="budget"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
