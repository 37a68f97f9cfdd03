package test

import (
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"usher/test/servers"
)

// nginx's methods that show no password, with a driver that has the passwords as
// they are.
func TestNginx_Methods(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	name := user("two", 0)
	backend := servers.StartDovecotBackend(t, "127.0.0.2", people, nil)
	var inventory strings.Builder
	for _, protocol := range mailProtocols[:2] {
		_, port, err := net.SplitHostPort(backend.Addr[protocol])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: %s, host: 127.0.0.2, port: %s}\n", protocol, port)
	}
	authHTTP := servers.Addr(t, "127.0.0.1")
	u := servers.StartUsher(t, fmt.Sprintf(`failure_delay: 0s
nginx:
  listeners:
    - {address: %q}
passdb:
  - {driver: passwd_file, path: %q}
backend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, authHTTP, servers.WriteFile(t, name+":{PLAIN}"+password+"\n", servers.Dir(t), "passwd"), inventory.String()))
	tls, own := servers.NewCertificate(t, "127.0.0.1"), servers.NewNamedCertificate(t, name)
	nginx := servers.StartNginx(t, servers.NginxOptions{
		AuthHTTP: authHTTP + "/auth", TLS: tls, Clients: own,
		Settings: "\timap_auth plain login cram-md5 external;\n\tpop3_auth plain apop cram-md5 external;\n",
	})
	dial := func(t *testing.T, protocol string, cert *servers.Certificate) *servers.Client {
		t.Helper()
		return servers.DialTLSAs(t, protocol, nginx.Addr[protocol], tls, cert)
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	cram := func(t *testing.T, protocol, pass string) (*servers.Client, string) {
		c := dial(t, protocol, nil)
		return c, c.Authenticate("CRAM-MD5", func(challenge string) string {
			text, err := base64.StdEncoding.DecodeString(challenge)
			if err != nil {
				t.Fatal(err)
			}
			return encode(cramMD5(name, pass)(string(text)))
		})
	}
	external := func(t *testing.T, protocol, authzid string, cert *servers.Certificate) (*servers.Client, string) {
		c := dial(t, protocol, cert)
		return c, c.Authenticate("EXTERNAL", func(string) string { return encode(authzid) })
	}
	in := func(t *testing.T, c *servers.Client, reply, method string) {
		t.Helper()
		if !c.OK(reply) {
			t.Fatal(reply)
		}
		if got := c.Backend(); got != "127.0.0.2" {
			t.Errorf("logged in at %s", got)
		}
		if d := u.Decided(t, c.IP); d.Outcome != "routed" || d.User != name || d.Mech != method {
			t.Errorf("decision: %+v", d)
		}
	}
	for _, protocol := range mailProtocols[:2] {
		t.Run(protocol+"/CRAM-MD5", func(t *testing.T) {
			c, reply := cram(t, protocol, password)
			in(t, c, reply, "CRAM-MD5")
			_, reply = cram(t, protocol, "wrong")
			expect(t, protocol, reply, wrongPassword)
		})
		t.Run(protocol+"/EXTERNAL", func(t *testing.T) {
			for _, authzid := range []string{name, ""} {
				c, reply := external(t, protocol, authzid, own)
				in(t, c, reply, "EXTERNAL")
			}
			_, reply := external(t, protocol, user("three", 0), own)
			expect(t, protocol, reply, wrongPassword)
			_, reply = external(t, protocol, name, nil)
			if c := dial(t, protocol, nil); c.OK(reply) {
				t.Errorf("without a certificate: %s", reply)
			}
		})
	}
	t.Run("pop3/APOP", func(t *testing.T) {
		c := dial(t, "pop3", nil)
		in(t, c, c.APOP(name, password), "APOP")
		expect(t, "pop3", dial(t, "pop3", nil).APOP(name, "wrong"), wrongPassword)
	})
}
