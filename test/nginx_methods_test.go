package test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"usher/test/servers"
)

// cramMD5States is {CRAM-MD5} of password, by doveadm pw.
const cramMD5States = "38b57fd1a0c4b46c814aa05f20318edd71c455380655f2c0ac35c5b359528d29"

// nginx's methods that show no password, with a driver that has the passwords as
// they are.
func TestNginx_Methods(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	// Whose password the file has as it is, as a hash, and as the states of HMAC-MD5.
	name, hashed, states := user("two", 0), user("two", 1), user("two", 2)
	backend := servers.StartDovecotBackend(t, "127.0.0.2", servers.Users{name: password, hashed: password, states: "at-the-backend"}, nil)
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
%s`, authHTTP, servers.WriteFile(t, fmt.Sprintf(`%[1]s:{PLAIN}%[3]s
%[2]s:{SHA256.hex}%[4]x
%[5]s:{CRAM-MD5}%[6]s::::::pass=at-the-backend
`, name, hashed, password, sha256.Sum256([]byte(password)), states, cramMD5States), servers.Dir(t), "passwd"), inventory.String()))
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
	cram := func(t *testing.T, protocol, name, pass string) (*servers.Client, string) {
		t.Helper()
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
	in := func(t *testing.T, c *servers.Client, name, reply, method string) {
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
			for _, name := range []string{name, states} {
				c, reply := cram(t, protocol, name, password)
				in(t, c, name, reply, "CRAM-MD5")
				_, reply = cram(t, protocol, name, "wrong")
				expect(t, protocol, reply, wrongPassword)
			}
			_, reply := cram(t, protocol, hashed, password)
			expect(t, protocol, reply, wrongPassword)
		})
		t.Run(protocol+"/EXTERNAL", func(t *testing.T) {
			for _, authzid := range []string{name, ""} {
				c, reply := external(t, protocol, authzid, own)
				in(t, c, name, reply, "EXTERNAL")
			}
			_, reply := external(t, protocol, user("three", 0), own)
			expect(t, protocol, reply, wrongPassword)
			_, reply = external(t, protocol, name, nil)
			expect(t, protocol, reply, wrongPassword) // without a certificate
		})
	}
	t.Run("pop3/APOP", func(t *testing.T) {
		c := dial(t, "pop3", nil)
		in(t, c, name, c.APOP(name, password), "APOP")
		expect(t, "pop3", dial(t, "pop3", nil).APOP(name, "wrong"), wrongPassword)
		for _, name := range []string{hashed, states} {
			expect(t, "pop3", dial(t, "pop3", nil).APOP(name, password), wrongPassword)
		}
	})
}
