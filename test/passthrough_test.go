package test

import (
	"fmt"
	"net"
	"testing"

	"usher/test/servers"
)

// With passthrough the backend judges the password. Its refusal is a wrong
// password, seen through Dovecot and through nginx.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	backend := servers.StartDovecotBackend(t, "127.0.0.2", people, nil)
	_, imap, err := net.SplitHostPort(backend.Addr["imap"])
	if err != nil {
		t.Fatal(err)
	}
	_, pop3, err := net.SplitHostPort(backend.Addr["pop3"])
	if err != nil {
		t.Fatal(err)
	}
	standalone := servers.StartDovecotProxy(t, "127.0.0.1", nil)
	authHTTP := servers.Addr(t, "127.0.0.1")
	servers.StartUsher(t, fmt.Sprintf(`nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3]}
dovecot:
  listeners:
    - {address: "unix:%s", kind: auth}
passdb:
  - {driver: passthrough}
backend_server_monitoring:
  interval: 1s
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %s}
    - {protocol: pop3, host: 127.0.0.2, port: %s}
`, authHTTP, standalone.Sock, imap, pop3))
	fronts := map[string]map[string]string{servers.DovecotVersion(t) + "_Standalone": standalone.Addr}
	if !servers.OnlyDovecot() {
		fronts["Nginx"] = servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"}).Addr
	}
	for name, addr := range fronts {
		for _, protocol := range []string{"imap", "pop3"} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				expectBackend(t, servers.Dial(t, protocol, addr[protocol]), user("two", 0), "127.0.0.2")
				c := servers.Dial(t, protocol, addr[protocol])
				expect(t, protocol, c.Login(user("two", 0), "wrong"), wrongPassword)
			})
		}
	}
}
