package test

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/test/servers"
)

// An authRig is nginx and Dovecot's login processes before an usher that has a
// real auth server compare passwords.
type authRig struct {
	auth   *servers.DovecotAuth
	usher  *servers.Usher
	fronts []*front
}

const utf8Password = "pässwörd €"

func newAuthRig(t *testing.T, socket func(*servers.DovecotAuth) string, settings string) *authRig {
	t.Helper()
	var passwd strings.Builder
	users := servers.Users{"umlaut@example.org": utf8Password, "robert@example.org": password}
	fmt.Fprintf(&passwd, "umlaut@example.org:{PLAIN}%s\n", utf8Password)
	for n := range 8 {
		users[user("two", n)] = password
		fmt.Fprintf(&passwd, "%s:{PLAIN}%s\n", user("two", n), password)
	}
	fmt.Fprintf(&passwd, "bob@example.org:{PLAIN}%s::::::user=robert@example.org\n", password)
	fmt.Fprintf(&passwd, "closed@example.org:{PLAIN}%s::::::nologin reason=Closed.\n", password)
	r := &authRig{auth: servers.StartDovecotAuth(t, passwd.String(), settings)}

	backend := servers.StartDovecotBackend(t, "127.0.0.2", users, nil).Addr
	if backend["smtp"] = backend["submission"]; !servers.OnlyDovecot() {
		backend["smtp"] = servers.StartSMTPSink(t, "127.0.0.2").Addr
	}
	var inventory strings.Builder
	for _, protocol := range []string{"imap", "pop3", "smtp", "sieve"} {
		_, port, err := net.SplitHostPort(backend[protocol])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: %s, host: 127.0.0.2, port: %s}\n", protocol, port)
	}
	standalone := servers.StartDovecotProxy(t, "127.0.0.1", nil)
	authHTTP := servers.Addr(t, "127.0.0.1")
	r.usher = servers.StartUsher(t, fmt.Sprintf(`failure_delay: 30s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3, smtp]}
dovecot:
  listeners:
    - {address: "unix:%s"}
passdb:
  - {driver: dovecot, address: "unix:%s", userdb_address: "unix:%s"}
backend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, authHTTP, standalone.Sock, socket(r.auth), r.auth.Userdb, inventory.String()))
	noSecrets(t, r.usher)
	r.fronts = []*front{{servers.DovecotVersion(t) + "_Standalone", standalone.Addr}}
	if !servers.OnlyDovecot() {
		r.fronts = append(r.fronts, &front{"Nginx", servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"}).Addr})
	}
	return r
}

// each runs f for every front and protocol.
func (r *authRig) each(t *testing.T, f func(t *testing.T, fr *front, protocol string)) {
	t.Helper()
	t.Run("each", func(t *testing.T) {
		for _, fr := range r.fronts {
			for _, protocol := range fr.protocols() {
				t.Run(fr.name+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					f(t, fr, protocol)
				})
			}
		}
	})
}

func clientSocket(a *servers.DovecotAuth) string { return a.Client }
func loginSocket(a *servers.DovecotAuth) string  { return a.Login }

var closed = replies{
	"imap": regexp.MustCompile(`^NO .*Closed\.`),
	"pop3": regexp.MustCompile(`^-ERR .*Closed\.`),
	"smtp": regexp.MustCompile(`^535 .*Closed\.`),

	"submission": regexp.MustCompile(`^535 .*Closed\.`),
	"sieve":      regexp.MustCompile(`^NO .*Closed\.`),
}

func TestPassdbDovecot_Logins(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]func(*servers.DovecotAuth) string{"auth-client": clientSocket, "login": loginSocket} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAuthRig(t, socket, "auth_failure_delay = 0\n")
			r.each(t, func(t *testing.T, fr *front, protocol string) {
				dial := func() *servers.Client { return servers.Dial(t, protocol, fr.addr[protocol]) }
				c := dial()
				expectBackend(t, c, user("two", 0), "127.0.0.2")
				if d := r.usher.Decided(t, c.IP); d.Outcome != "routed" || d.User != user("two", 0) {
					t.Errorf("decision: %+v", d)
				}
				c = dial()
				if reply := c.AuthPlain("umlaut@example.org", utf8Password, true); !c.OK(reply) || c.Backend() != "127.0.0.2" {
					t.Errorf("UTF-8: %s", reply)
				}
				c = dial()
				expectBackend(t, c, "BOB@example.org", "127.0.0.2")
				if d := r.usher.Decided(t, c.IP); d.User != "robert@example.org" {
					t.Errorf("the auth server's name for the user is not taken: %+v", d)
				}
				c = dial()
				expect(t, protocol, c.Login(user("two", 0), "wrong"), wrongPassword)
				if d := r.usher.Decided(t, c.IP); d.Outcome != "denied" || d.Reason != "password" || d.By != "passdb:dovecot" {
					t.Errorf("decision: %+v", d)
				}
				expect(t, protocol, dial().Login("nobody@example.org", password), wrongPassword)
				c = dial()
				expect(t, protocol, c.Login("closed@example.org", password), closed)
				if d := r.usher.Decided(t, c.IP); d.Outcome != "denied" || d.Reason != "user_disabled" {
					t.Errorf("decision: %+v", d)
				}
			})
		})
	}
}

// The auth server is a second or two late with a refusal. usher's own delay, which is
// far longer here, does not come on top.
func TestPassdbDovecot_DelayOnce(t *testing.T) {
	t.Parallel()
	r := newAuthRig(t, clientSocket, "auth_failure_delay = 2s\n")
	r.each(t, func(t *testing.T, fr *front, protocol string) {
		c := servers.Dial(t, protocol, fr.addr[protocol])
		begin := time.Now()
		expect(t, protocol, c.Login(user("two", 0), "wrong"), wrongPassword)
		if took := time.Since(begin); took < 900*time.Millisecond || took > 10*time.Second {
			t.Errorf("refused after %s, want the auth server's one or two seconds", took)
		}
		if fr.name != "Nginx" {
			expectBackend(t, c, user("two", 0), "127.0.0.2")
			return
		}
		// As nginx does where it is told to wait for nothing.
		if line, err := c.Read(); err == nil {
			t.Errorf("nginx goes on after a refusal: %s", line)
		}
	})
}

func TestPassdbDovecot_Many(t *testing.T) {
	t.Parallel()
	r := newAuthRig(t, loginSocket, "auth_failure_delay = 0\n")
	r.each(t, func(t *testing.T, fr *front, protocol string) {
		var jobs []func()
		for n := range 40 {
			jobs = append(jobs, func() {
				c := servers.Dial(t, protocol, fr.addr[protocol])
				defer c.Close()
				if n%8 == 7 {
					expect(t, protocol, c.Login(user("two", n%8), "wrong"), wrongPassword)
					return
				}
				expectBackend(t, c, user("two", n%8), "127.0.0.2")
			})
		}
		together(jobs...)
	})
}

// authPID returns the process that answers at the auth server's socket.
func authPID(t *testing.T, a *servers.DovecotAuth) int {
	t.Helper()
	c := servers.DialAuth(t, a.Client, 1)
	defer c.Close()
	for _, line := range c.Greeting {
		if pid, ok := strings.CutPrefix(line, "SPID\t"); ok {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no SPID in %q", c.Greeting)
	return 0
}

// An auth process that dies is run again at once by its master: what it had not
// answered is asked again, and nobody notices.
func TestPassdbDovecot_AuthProcessDies(t *testing.T) {
	t.Parallel()
	r := newAuthRig(t, clientSocket, "auth_failure_delay = 0\n")
	k := &keptRig{usher: r.usher, fronts: r.fronts}
	stop := k.load(t, 4)
	for range 3 {
		<-time.After(1500 * time.Millisecond)
		if err := syscall.Kill(authPID(t, r.auth), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(1500 * time.Millisecond)
	told := stop()
	t.Logf("logins over three deaths: %v", told)
	if told.counts["OK"] < 30 || len(told.counts) != 1 {
		t.Errorf("told %v, want only OK", told)
	}
}

// While there is no auth server, logins fail for a time, and none for a wrong
// password; when it is back, they go on.
func TestPassdbDovecot_Outage(t *testing.T) {
	t.Parallel()
	r := newAuthRig(t, clientSocket, "auth_failure_delay = 0\n")
	k := &keptRig{usher: r.usher, fronts: r.fronts}
	stop := k.load(t, 4)
	<-time.After(time.Second)
	r.auth.Kill()
	<-time.After(4 * time.Second)
	for _, fr := range r.fronts {
		for _, protocol := range fr.protocols() {
			expect(t, protocol, servers.Dial(t, protocol, fr.addr[protocol]).Login(user("two", 0), password), temporary)
		}
	}
	r.auth.Start(t)
	<-time.After(4 * time.Second) // the longest pause between two attempts, and more
	told := stop()
	t.Logf("logins over an outage: %v", told)
	for reply := range told.counts {
		switch reply {
		case "OK", "NO [UNAVAILABLE]", "-ERR [SYS/TEMP]":
		default:
			t.Errorf("told %q", reply)
		}
	}
	for _, fr := range r.fronts {
		for _, protocol := range fr.protocols() {
			expectBackend(t, servers.Dial(t, protocol, fr.addr[protocol]), user("two", 0), "127.0.0.2")
		}
	}
}

// usher's answers to look-ups are the auth server's.
func TestPassdbDovecot_Userdb(t *testing.T) {
	t.Parallel()
	auth := servers.StartDovecotAuth(t, strings.ReplaceAll(mailboxes, "/%n", ""), "") // 2.4 has other variables
	c := servers.DialUserdb(t, startUserdb(t, fmt.Sprintf("  - {driver: dovecot, address: \"unix:%s\", userdb_address: \"unix:%s\"}\n", auth.Client, auth.Userdb)))
	direct := servers.DialUserdb(t, auth.Userdb)
	for n, user := range []string{"alice@example.org", "Alice@Example.ORG", "bob", "old", "locked", "nobody"} {
		line := fmt.Sprintf("USER\t%d\t%s\tservice=lmtp", n+1, user)
		if got, want := answer(c, line), answer(direct, line); got != want {
			t.Errorf("USER %s:\n usher   %q\n dovecot %q", user, got, want)
		}
	}
	if servers.DovecotVersion(t) == "Dovecot24" {
		return // 2.4.1 loses names of a LIST now and then by itself
	}
	got, end := names(c, "LIST\t1")
	if want, wantEnd := names(direct, "LIST\t1"); fmt.Sprint(got, end) != fmt.Sprint(want, wantEnd) || len(got) != 5 {
		t.Errorf("LIST:\n usher   %q %q\n dovecot %q %q", got, end, want, wantEnd)
	}
	if got, end := names(c, "LIST\t1\tuser=*O?*"); len(got) != 4 || end != "DONE\t1\t" {
		t.Errorf("LIST of a mask: %q, %q", got, end)
	}
	for user, want := range map[string]string{
		"BOB":    "PASS 1 user=robert host=127.0.0.2 port=10024 proxy proxy_refresh=450",
		"locked": "PASS 1 user=locked host=127.0.0.2 port=10024 proxy proxy_refresh=450 reason=closed",
		"nobody": "NOTFOUND 1",
	} {
		if got := answer(c, fmt.Sprintf("PASS\t1\t%s\tservice=lmtp\tlip=127.0.0.1", user)); got != want {
			t.Errorf("PASS %s: %q, want %q", user, got, want)
		}
	}
}

// Without an address to look users up at, nobody is told that a user is unknown.
func TestPassdbDovecot_NoUserdb(t *testing.T) {
	t.Parallel()
	auth := servers.StartDovecotAuth(t, "", "")
	c := servers.DialUserdb(t, startUserdb(t, fmt.Sprintf("  - {driver: dovecot, address: \"unix:%s\"}\n", auth.Client)))
	for line, want := range map[string]string{
		"PASS\t1\tbob\tservice=lmtp": "FAIL 1 code=temp_fail",
		"USER\t1\tbob\tservice=lmtp": "FAIL 1 code=temp_fail reason=no password driver of usher knows mailboxes",
		"LIST\t1":                    "DONE 1 fail",
	} {
		if got := answer(c, line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
