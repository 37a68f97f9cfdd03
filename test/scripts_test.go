package test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"usher/test/servers"
)

// Init scripts, features, the password driver lua and a filter together, behind
// nginx and Dovecot's login processes, and for the look-ups of lmtp and doveadm.
func TestScripts(t *testing.T) {
	t.Parallel()
	users := servers.Users{"alice@example.org": password, "robert@example.org": password}
	backend := servers.StartDovecotBackend(t, "127.0.0.2", users, nil).Addr
	var inventory strings.Builder
	for _, protocol := range []string{"imap", "pop3", "sieve"} {
		_, port, err := net.SplitHostPort(backend[protocol])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: %s, host: 127.0.0.2, port: %s}\n", protocol, port)
	}
	standalone := servers.StartDovecotProxy(t, "127.0.0.1", nil)
	authHTTP := servers.Addr(t, "127.0.0.1")
	usher := servers.StartUsher(t, fmt.Sprintf(`failure_delay: 0s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3]}
dovecot:
  listeners:
%spassdb:
  - {driver: lua, script: %q}
director:
  init: [%q]
  features: [{name: blocklist, script: %q}]
  filters: [{name: route, script: %q, when_authenticated: true, when_no_auth: true}]
backend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, authHTTP, standaloneAt(standalone), testdata(t, "scripts/users.lua"), testdata(t, "scripts/init.lua"),
		testdata(t, "scripts/blocklist.lua"), testdata(t, "scripts/route.lua"), inventory.String()))
	noSecrets(t, usher)
	fronts := []*front{{servers.DovecotVersion(t) + "_Standalone", standalone.Addr}}
	if !servers.OnlyDovecot() {
		fronts = append(fronts, &front{"Nginx", servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"}).Addr})
	}

	for _, fr := range fronts {
		for _, protocol := range []string{"imap", "pop3"} {
			t.Run(fr.name+"/"+protocol, func(t *testing.T) {
				for _, login := range []struct {
					user, password string
					reply          replies // nil: logged in
					decision       string
				}{
					{"alice@example.org", password, nil, "routed alice@example.org policy:route selected"},
					{"BOB@example.org", password, nil, "routed robert@example.org policy:route selected"},
					{"alice@example.org", "wrong", wrongPassword, "denied alice@example.org passdb:lua password"},
					{"nobody@example.org", password, wrongPassword, "denied nobody@example.org passdb:lua password"},
					{"broken@example.org", password, temporary, "tempfail broken@example.org usher passdb_unavailable"},
					{"closed@example.org", password, closed, "denied closed@example.org policy:blocklist policy"},
				} {
					c := servers.Dial(t, protocol, fr.addr[protocol])
					reply := c.Login(login.user, login.password)
					if login.reply != nil {
						expect(t, protocol, strings.Replace(reply, "Closed", "Closed.", 1), login.reply)
					} else if !c.OK(reply) || c.Backend() != "127.0.0.2" {
						t.Errorf("%s: %s", login.user, reply)
					}
					d := usher.Decided(t, c.IP)
					if got := strings.Join([]string{d.Outcome, d.User, d.By, d.Reason}, " "); got != login.decision {
						t.Errorf("%s: decision %q, want %q", login.user, got, login.decision)
					}
				}
			})
		}
	}

	t.Run("doveadm", func(t *testing.T) {
		out, errs, status := standalone.Doveadm(t, "user", "*")
		if got := strings.Fields(out); status != 0 || len(got) != 2 || got[0] != "alice@example.org" || got[1] != "robert@example.org" {
			t.Errorf("doveadm user '*': %d %s%s", status, out, errs)
		}
		out, errs, status = standalone.Doveadm(t, "user", "alice@example.org")
		if status != 0 || !strings.Contains(out, "/srv/mail/alice@example.org") {
			t.Errorf("doveadm user alice: %d %s%s", status, out, errs)
		}
	})
	for _, line := range usher.Log.Lines(0) {
		if strings.Contains(line, `"outcome":"routed"`) && !strings.Contains(line, `"list":"1"`) {
			t.Errorf("what the feature noted is not with the filter: %s", line)
		}
	}
}
