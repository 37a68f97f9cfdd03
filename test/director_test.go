package test

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"usher/test/servers"
)

// directorUsers are lines of a passwd-file: what an auth server may say of a
// user. PORT is that of the backends.
const directorUsers = `plain:{PLAIN}secret::::::proxy=y port=PORT
noport:{PLAIN}secret::::::proxy=y
destuser:{PLAIN}secret::::::proxy=y port=PORT destuser=somebody@example.net
changed:{PLAIN}secret::::::proxy=y port=PORT user=another@example.net
tagged:{PLAIN}secret::::::proxy=y port=PORT director_tag=ssd
named:{PLAIN}secret::::::proxy=y port=PORT director_tag=named
maybe:{PLAIN}secret::::::director_proxy_maybe=y port=PORT
maybeself:{PLAIN}secret::::::director_proxy_maybe=y port=PORT
both:{PLAIN}secret::::::proxy=y director_proxy_maybe=y port=PORT
bothself:{PLAIN}secret::::::proxy=y director_proxy_maybe=y port=PORT
host:{PLAIN}secret::::::proxy=y host=192.0.2.1 port=143
hostmaybe:{PLAIN}secret::::::director_proxy_maybe=y host=192.0.2.1
local:{PLAIN}secret::::::
ssl:{PLAIN}secret::::::proxy=y port=PORT ssl=any-cert
starttls:{PLAIN}secret::::::proxy=y port=PORT starttls=y
master:{PLAIN}secret::::::proxy=y port=PORT master=postmaster pass=mastersecret
pass:{PLAIN}secret::::::proxy=y port=PORT pass=othersecret
timeout:{PLAIN}secret::::::proxy=y port=PORT proxy_timeout=5 proxy_not_trusted=y forward_a=1
nologin:{PLAIN}secret::::::nologin=y reason=moved
odd*joe:{PLAIN}secret::::::proxy=y port=PORT
disabled:{PLAIN}secret::::::user_disabled
card:::::::nopassword proxy=y port=PORT
cardlocal:::::::nopassword
`

// differ are the users for whom usher's reply is another than the director's, and
// how: docs/dovecot.md tells why.
var differ = map[string]func(director string) string{
	// Without a port the director's users go to the protocol's own, usher's to that
	// of the inventory.
	"noport": func(s string) string { return strings.Replace(s, "\tproxy_refresh=", "\tport=PORT\tproxy_refresh=", 1) },
	// To director_proxy_maybe without `proxy` the director added a host, which is a
	// local login all the same; usher makes it a proxied one.
	"maybe": func(s string) string {
		added := "\tproxy"
		if strings.HasPrefix(s, "OK\t") {
			added += "\tpass=secret" // which auth gives to proxied logins alone
		}
		return strings.Replace(s, "\tproxy_refresh=", added+"\tproxy_refresh=", 1)
	},
	// It never found out that the host is the proxy itself: auth tells it the
	// proxy's address only beside `proxy`.
	"maybeself": func(s string) string { s, _, _ = strings.Cut(s, "\tproxy_refresh="); return s },
	// And beside `proxy`, of which a login process then asks a host.
	"bothself": func(s string) string {
		return strings.Replace(strings.Replace(s, "\tproxy=y", "", 1), "\tproxy\t", "\t", 1)
	},
}

type directorRig struct {
	*servers.Director
	users  []string
	port   string
	sock   string // usher's for login processes
	userdb string // usher's for look-ups
	usher  *servers.Usher
}

// listenEverywhere listens on one port of all these addresses, and says nothing
// there: nobody gets that far.
func listenEverywhere(t *testing.T, ips ...string) (port string) {
	t.Helper()
	for range 20 {
		port = strconv.Itoa(servers.Port(t, ips[0]))
		var open []net.Listener
		for _, ip := range ips {
			ln, err := net.Listen("tcp", net.JoinHostPort(ip, port))
			if err != nil {
				break
			}
			open = append(open, ln)
		}
		t.Cleanup(func() {
			for _, ln := range open {
				ln.Close()
			}
		})
		if len(open) == len(ips) {
			return port
		}
	}
	t.Fatalf("no port is free on all of %v", ips)
	return ""
}

// startDirectorRig starts a director and an usher before one auth server. more is
// YAML for usher.
func startDirectorRig(t *testing.T, more string) *directorRig {
	t.Helper()
	port := listenEverywhere(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	users := directorUsers
	if ips, err := net.LookupHost("localhost"); err != nil || len(ips) != 1 || ips[0] != "127.0.0.1" { // no /etc/hosts
		users = strings.Replace(users, "named:{PLAIN}secret::::::proxy=y port=PORT director_tag=named\n", "", 1)
	}
	d := servers.StartDirector(t, strings.ReplaceAll(users, "PORT", port), "127.0.0.2 127.0.0.3@ssd localhost@named", `auth_master_user_separator = *
director_username_hash = %Lu
auth_ssl_username_from_cert = yes
`)
	dir := servers.Dir(t)
	r := &directorRig{Director: d, users: usersOf(users), port: port, sock: dir + "/sock", userdb: dir + "/userdb"}
	r.usher = servers.StartUsher(t, fmt.Sprintf(`failure_delay: 0s
dovecot:
  master_user_separator: "*"
  master: {user: usher, pass: mastersecret}
  listeners:
    - {address: "unix:%[1]s", upstream: "unix:%[2]s"}
    - {address: "unix:%[3]s", kind: userdb, upstream: "unix:%[4]s"}
backend_server_monitoring:
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %[5]s}
    - {protocol: imap, host: 127.0.0.3, port: %[5]s, tags: [ssd]}
    - {protocol: imap, host: localhost, port: %[5]s, tags: [named]}
`, r.sock, d.Auth, r.userdb, d.AuthUser, port)+more)
	return r
}

// usersOf are the users of a passwd-file.
func usersOf(passwd string) (users []string) {
	for line := range strings.Lines(passwd) {
		user, _, _ := strings.Cut(line, ":")
		users = append(users, user)
	}
	return users
}

// compare compares usher's line with the director's, but for what differs.
func (r *directorRig) compare(t *testing.T, user, usher, director string) {
	t.Helper()
	if f := differ[user]; f != nil {
		director = strings.ReplaceAll(f(director), "PORT", r.port)
	}
	if usher != director {
		t.Errorf("\n usher    %q\n director %q", usher, director)
	}
}

// Toward the same auth server, usher answers field for field as Dovecot's own
// director does.
func TestDirector_SameReplies(t *testing.T) {
	t.Parallel()
	r := startDirectorRig(t, "")
	director, usher := servers.DialAuth(t, r.Login, 4001), servers.DialAuth(t, r.sock, 4002)
	id := 0
	ask := func(t *testing.T, lines string) (fromDirector, fromUsher string) {
		t.Helper()
		id++
		text := fmt.Sprintf(lines, id)
		director.Say(text)
		fromDirector = director.Hear()
		usher.Say(text)
		return fromDirector, usher.Hear()
	}
	plain := func(user, pass string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + pass))
	}
	for _, user := range append(r.users, "nobody") {
		t.Run(user, func(t *testing.T) {
			local := "lip=127.0.0.1\tlport=143"
			if strings.HasSuffix(user, "self") {
				local = "lip=127.0.0.2\tlport=" + r.port
			}
			want, got := ask(t, "AUTH\t%d\tPLAIN\tservice=imap\tsecured\t"+local+"\trip=192.0.2.7\trport=4711\tresp="+plain(user, "secret"))
			r.compare(t, user, got, want)
		})
	}
	t.Run("wrong_password", func(t *testing.T) {
		want, got := ask(t, "AUTH\t%d\tPLAIN\tservice=imap\tsecured\tresp="+plain("plain", "wrong"))
		if got != want || !strings.HasPrefix(got, "FAIL\t") {
			t.Errorf("\n usher    %q\n director %q", got, want)
		}
	})
}

// A policy that names a tag goes by it where the auth server gives no director_tag;
// where it gives one, only hosts with that are there.
func TestDirector_PolicyByTag(t *testing.T) {
	t.Parallel()
	script := filepath.Join(servers.Dir(t), "route.lua")
	const text = `function nauthilus_call_filter(request)
		local server = usher.sticky(usher.servers({tag = "ssd"}))
		if server then usher.select(server) end
	end`
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startDirectorRig(t, "director: {script: "+script+"}\n")
	usher := servers.DialAuth(t, r.sock, 4003)
	for i, c := range []struct{ user, want string }{{"plain", "host=127.0.0.3\t"}, {"tagged", "host=127.0.0.3\t"}} {
		resp := base64.StdEncoding.EncodeToString([]byte("\x00" + c.user + "\x00secret"))
		usher.Say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=imap\tsecured\tlip=127.0.0.1\tlport=143\trip=192.0.2.7\trport=4711\tresp=%s", i+1, resp))
		if got := usher.Hear(); !strings.Contains(got+"\t", c.want) {
			t.Errorf("%s: %q, want %q", c.user, got, c.want)
		}
	}
}

// TestDirector_SameReplies for userdb look-ups.
func TestDirector_SameLookups(t *testing.T) {
	t.Parallel()
	r := startDirectorRig(t, "")
	director, usher := servers.DialUserdb(t, r.Userdb), servers.DialUserdb(t, r.userdb)
	id := 0
	for _, user := range append(r.users, "nobody") {
		for _, verb := range []string{"PASS", "USER"} {
			t.Run(verb+"/"+user, func(t *testing.T) {
				id++
				text := fmt.Sprintf("%s\t%d\t%s\tservice=imap\tlip=127.0.0.1\tlport=143\trip=192.0.2.7", verb, id, user)
				if strings.HasSuffix(user, "self") {
					text = strings.Replace(text, "lip=127.0.0.1\tlport=143", "lip=127.0.0.2\tlport="+r.port, 1)
				}
				director.Say(text)
				want := director.Hear()
				usher.Say(text)
				got := usher.Hear()
				if verb == "USER" {
					user = "" // nothing differs
				}
				r.compare(t, user, got, want)
			})
		}
	}
	id++
	list := func(c *servers.AuthClient) []string {
		c.Say(fmt.Sprintf("LIST\t%d\tuser=*", id))
		var lines []string
		for {
			line := c.Hear()
			lines = append(lines, line)
			if !strings.HasPrefix(line, "LIST\t") {
				return lines
			}
		}
	}
	if want, got := list(director), list(usher); strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) < 10 {
		t.Errorf("LIST:\n usher    %q\n director %q", got, want)
	}
}
