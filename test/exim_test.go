package test

import (
	"path/filepath"
	"strings"
	"testing"

	"usher/test/servers"
)

// The site file that operators copy, as it stands.
func TestDeploy_EximSite(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	for _, name := range []string{"usher_plain", "usher_login"} {
		out := servers.EximAuthenticator(t, name)
		for _, want := range []string{
			"driver = dovecot",
			"server_socket = /run/usher/exim.sock",
			"server_advertise_condition = ${if def:tls_in_cipher}",
			"server_set_id = $auth1",
			"public_name = " + strings.ToUpper(strings.TrimPrefix(name, "usher_")),
		} {
			if !strings.Contains(out, want+"\n") {
				t.Errorf("%s: no %q in:\n%s", name, want, out)
			}
		}
	}
}

// Exim goes on with the user name that usher answered.
func TestExim_AuthenticatedID(t *testing.T) {
	t.Parallel()
	sock := filepath.Join(servers.Dir(t), "exim.sock")
	exim := servers.StartExim(t, servers.EximOptions{Socket: sock})
	servers.StartUsher(t, `failure_delay: 0s
dovecot:
  listeners:
    - {address: "unix:`+sock+`", mode: "0660", group: Debian-exim}
`+verifying(t, servers.Users{"a b@example.org": password}, ""))
	c := servers.Dial(t, "smtp", exim.Addr)
	expect(t, "exim", c.Login("A b@EXAMPLE.org", password), authenticated)
	from := exim.Log.Len()
	expect(t, "exim", c.Submit(foreign), taken)
	exim.Logged(t, from, "the user name as usher has it", func(line string) bool {
		return strings.Contains(line, `A=usher_login:a b@example.org`)
	})
}
