package test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"usher/test/servers"
)

const token = "eyJhbGciOiJSUzI1NiJ9.e30.s3cr3t-t0ken_~+/=="

// Tokens reach the backend, which has them verified: through a usher that stands
// alone, and through one before a real auth server that verifies them too.
func TestTokens(t *testing.T) {
	t.Parallel()
	servers.NeedDovecot23(t)
	name := user("two", 0)
	const strange, strangers = "b,a=c=d@example.org", "s3cr3t-of-b"
	tokens := servers.StartTokenServer(t, map[string]string{name: token, strange: strangers})
	backend := servers.StartTokenBackend(t, "127.0.0.2", tokens, name, strange)
	_, port, err := net.SplitHostPort(backend.Addr["imap"])
	if err != nil {
		t.Fatal(err)
	}
	standalone := servers.StartDovecotProxy(t, "127.0.0.1", nil)
	interposed := servers.StartDovecotProxy(t, "127.0.0.1", people,
		tokens.Passdb(t, "proxy=y proxy_mech=%m pass=%{oauth2:access_token}"))
	u := servers.StartUsher(t, fmt.Sprintf(`failure_delay: 0s
dovecot:
  listeners:
    - {address: "unix:%s", mechanisms: [PLAIN, LOGIN, OAUTHBEARER, XOAUTH2]}
    - {address: "unix:%s", upstream: "unix:%s"}
backend_server_monitoring:
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %s}
`, standalone.Sock, interposed.Sock, interposed.Upstream, port))
	t.Cleanup(func() {
		for _, line := range u.Log.Lines(0) {
			if strings.Contains(line, token) || strings.Contains(line, strangers) {
				t.Errorf("the token is in usher's log: %s", line)
			}
		}
	})
	// A login process writes such a name as it is.
	t.Run("Standalone/escapes", func(t *testing.T) {
		t.Parallel()
		c := servers.Dial(t, "imap", standalone.Addr["imap"])
		if reply := c.AuthToken("OAUTHBEARER", strange, strangers, true); !c.OK(reply) {
			t.Fatal(reply)
		}
		if got := c.Backend(); got != "127.0.0.2" {
			t.Errorf("logged in at %s", got)
		}
	})
	t.Run("Standalone/another_in_the_name", func(t *testing.T) {
		t.Parallel()
		c := servers.Dial(t, "imap", standalone.Addr["imap"])
		expect(t, "imap", c.AuthToken("OAUTHBEARER", "x,a="+name, token, true), temporary)
	})
	for front, addr := range map[string]string{"Standalone": standalone.Addr["imap"], "Interposed": interposed.Addr["imap"]} {
		for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
			t.Run(front+"/"+mech, func(t *testing.T) {
				t.Parallel()
				// With passthrough the backend refuses the token, in the middle of the
				// exchange, which Dovecot 2.3's proxy does not understand: it tries
				// again, and calls that temporary.
				refused := temporary
				if front == "Interposed" {
					refused = wrongPassword
				}
				for _, initial := range []bool{true, false} {
					c := servers.Dial(t, "imap", addr)
					if reply := c.AuthToken(mech, name, token, initial); !c.OK(reply) {
						t.Fatalf("initial response %t: %s", initial, reply)
					}
					if got := c.Backend(); got != "127.0.0.2" {
						t.Errorf("logged in at %s", got)
					}
					if d := u.Decided(t, c.IP); d.Outcome != "routed" || d.User != name || d.Mech != mech {
						t.Errorf("decision: %+v", d)
					}
					c = servers.Dial(t, "imap", addr)
					expect(t, "imap", c.AuthToken(mech, name, "another-t0ken", initial), refused)
					c = servers.Dial(t, "imap", addr)
					expect(t, "imap", c.AuthToken(mech, user("three", 0), token, initial), refused)
				}
				// The process serves others afterwards.
				c := servers.Dial(t, "imap", addr)
				if reply := c.AuthToken(mech, name, token, true); !c.OK(reply) {
					t.Error(reply)
				}
			})
		}
	}
}
