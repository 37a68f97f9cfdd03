package test

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/protocol/dovecot"
	"usher/test/servers"
)

// doors listens on an address each and closes what comes.
func doors(t *testing.T, ips ...string) (port int) {
	t.Helper()
	port = servers.Port(t, ips...)
	for _, ip := range ips {
		ln, err := net.Listen("tcp", net.JoinHostPort(ip, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					c.Close()
				}
			}
		}()
	}
	return port
}

// `doveadm director` of Dovecot 2.3 gives orders to usher as to its director.
func TestDirector_DoveadmOrders(t *testing.T) {
	t.Parallel()
	doveadm := servers.StartDirector(t, "alice@example.org:{PLAIN}secret::::::\n", "127.0.0.2", "")
	dir := servers.Dir(t)
	admin, userdb := filepath.Join(dir, "director-admin"), filepath.Join(dir, "userdb")
	port := doors(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	u := servers.StartUsher(t, fmt.Sprintf(`dovecot:
  listeners:
    - {address: "unix:%s", kind: director-admin}
    - {address: "unix:%s", kind: userdb}
affinity: {kick_delay: 10ms}
backend_server_monitoring:
  interval: 1s
  backend_servers:
    - {protocol: lmtp, host: 127.0.0.2, port: %d}
    - {protocol: lmtp, host: 127.0.0.3, port: %d}
`, admin, userdb, port, port))
	names := servers.WriteFile(t, "alice@example.org\nbob@example.org\n", dir, "users")
	say := func(args string, want ...string) string {
		t.Helper()
		stdout, stderr, status := doveadm.Doveadm(t, doveadmDirector(strings.ReplaceAll(args, "USERS", names), admin)...)
		all := fmt.Sprintf("%s%s\nstatus %d\n", stdout, stderr, status)
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(all) {
				t.Errorf("doveadm director %s, want %s:\n%s", args, w, all)
			}
		}
		return all
	}
	users := servers.DialUserdb(t, userdb)
	defer users.Close()
	id := 0
	lives := func(user string) string {
		t.Helper()
		id++
		users.Say(fmt.Sprintf("PASS\t%d\t%s\tservice=lmtp", id, user))
		for {
			line := users.Hear()
			if !strings.HasPrefix(line, fmt.Sprintf("PASS\t%d\t", id)) && !strings.HasPrefix(line, fmt.Sprintf("FAIL\t%d", id)) {
				continue
			}
			_, host, ok := strings.Cut(line, "\thost=")
			if !ok {
				t.Fatalf("%s: %q", user, line)
			}
			host, _, _ = strings.Cut(host, "\t")
			return host
		}
	}

	say("status", `127\.0\.0\.2 +100 +up .* 0`, `127\.0\.0\.3 +100 +up .* 0`)
	home := lives("alice@example.org")
	other := map[string]string{"127.0.0.2": "127.0.0.3", "127.0.0.3": "127.0.0.2"}[home]
	say("status alice@example.org", `Current: `+home, `Hashed: `+home, `Initial config: `+home)
	say("map -f USERS", `alice@example.org +4227319470 +`+home)

	say("move alice@example.org "+other, `status 0`)
	until(t, func() bool { return strings.Contains(say("status alice@example.org"), "Current: "+other) })
	if got := lives("alice@example.org"); got != other {
		t.Errorf("alice is on %s after her move to %s", got, other)
	}
	say("move alice@example.org 127.0.0.99", `status [1-9]`)

	// One who was not seen yet begins where the order says.
	bob := map[string]string{}
	for n := range 20 {
		user := fmt.Sprintf("bob-%d@example.org", n)
		bob[user] = map[bool]string{true: "127.0.0.2", false: "127.0.0.3"}[n%2 == 0]
		say("move "+user+" "+bob[user], `status 0`)
	}
	u.Kill()
	u.Restart(t)
	users.Close()
	users = servers.DialUserdb(t, userdb)
	for user, host := range bob {
		if got := lives(user); got != host {
			t.Errorf("%s (%d) begins on %s, though ordered to %s", user, dovecot.DirectorHash(user), got, host)
		}
	}

	// Hosts: weight, down, up, another one, and away.
	say("update 127.0.0.2 50", `status 0`)
	say("down 127.0.0.3", `status 0`)
	say("status", `127\.0\.0\.2 +50`, `127\.0\.0\.3 +100 .*down`)
	for user := range bob {
		if got := lives(user); got != "127.0.0.2" {
			t.Errorf("%s is on %s, and the other host is down", user, got)
		}
	}
	say("up 127.0.0.3", `status 0`)
	say("add 127.0.0.4 200", `status 0`)
	until(t, func() bool { return regexp.MustCompile(`127\.0\.0\.4 +200`).MatchString(say("status")) })
	say("dump", `doveadm director add .* 127\.0\.0\.4 200`, `doveadm director add .* 127\.0\.0\.2 50`)
	say("update 127.0.0.2 0", `status 0`)
	say("flush 127.0.0.2", `status 0`)
	say("map -f USERS 127.0.0.2")
	out, errs, status := u.Run(t, "map", "--backend", "127.0.0.2", "--json")
	if out != "" || status != 0 {
		t.Errorf("after the flush users live on a host of weight 0: %s%s", out, errs)
	}
	say("remove 127.0.0.2", `status 0`)
	if all := say("status"); strings.Contains(all, "127.0.0.2 ") {
		t.Errorf("removed, and there:\n%s", all)
	}
	say("flush -F all", `status 0`)
	say("ring status", `self`, `ring synced`)
	say("kick alice@example.org", `dovecot.doveadm is empty`)
}
