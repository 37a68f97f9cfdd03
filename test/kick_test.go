package test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/protocol/dovecot"
	uproxy "usher/proxy"
	"usher/proxy/moves"
	"usher/test/servers"
)

// kickTime is how long sessions get to end.
const kickTime = 10 * time.Second

// odd are names that Dovecot, its command lines or JSON might take for something
// else. Those of masks it takes for patterns or networks.
var (
	odd   = []string{"-a", "two words", "{user,[a]}]", "<ü&\u2028😀>", "12345", "-1"}
	masks = []string{"t*", "tw?", "127.0.0.0/8", "127.1"}
)

// kickPolicy takes users whose names begin with `three` to one backend, and all
// others to the other.
const kickPolicy = `
local backend = require("nauthilus_backend")
function nauthilus_call_filter(request)
  local host = request.account:match("^three") and "127.0.0.3" or "127.0.0.2"
  for _, server in ipairs(backend.get_backend_servers()) do
    if server.protocol == request.protocol and server.host == host then
      backend.select_backend_server(server.host, server.port)
    end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
`

// doveadms are the ways to ask a Dovecot's doveadm.
func doveadms(t *testing.T, d *servers.Dovecot, role moves.Role) map[string]*dovecot.Doveadm {
	t.Helper()
	password := uproxy.NewSecret(servers.DoveadmPassword)
	out := map[string]*dovecot.Doveadm{}
	for way, o := range map[string]dovecot.DoveadmOptions{
		"TCP":          {URL: "tcp:" + d.Addr["doveadm"], Password: password},
		"HTTPKey":      {URL: "http://" + d.Addr["doveadm_http"], APIKey: uproxy.NewSecret(servers.DoveadmKey)},
		"HTTPPassword": {URL: "http://" + d.Addr["doveadm_http"] + "/", Password: password},
	} {
		o.Role = role
		k, err := dovecot.NewDoveadm(o)
		if err != nil {
			t.Fatal(err)
		}
		out[way] = k
	}
	return out
}

// loggedIn logs a user in.
func loggedIn(t *testing.T, protocol, addr, user string) *servers.Client {
	t.Helper()
	c := servers.Dial(t, protocol, addr)
	if reply := c.Login(user, password); !c.OK(reply) {
		t.Fatalf("%s: login of %q: %s", protocol, user, reply)
	}
	return c
}

// expectEnd reads until the server closes the connection.
func expectEnd(t *testing.T, c *servers.Client) {
	t.Helper()
	for {
		if _, err := c.Read(); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // as net has it
				t.Errorf("%s: the session goes on", c.Protocol)
			}
			return
		}
	}
}

// expectSessions compares the sessions of users with what is wanted, each `USER
// SERVICE CLIENT HOST`.
func expectSessions(t *testing.T, k moves.Kicker, users []string, want ...string) {
	t.Helper()
	sessions, err := k.Sessions(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sessions {
		got = append(got, strings.TrimSpace(fmt.Sprint(s.User, " ", s.Service, " ", s.RemoteIP, " ", s.Host)))
		if s.At != k.Name() {
			t.Errorf("a session at %q, listed by %q", s.At, k.Name())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("sessions of %q: %q, want %q", users, got, want)
	}
}

// expectGone kicks users and expects no session of theirs to be left.
func expectGone(t *testing.T, k moves.Kicker, host string, users ...string) {
	t.Helper()
	gone, left, err := moves.Kick(t.Context(), []moves.Kicker{k}, users, host, kickTime)
	if !gone || len(left) > 0 || err != nil {
		t.Fatalf("kick of %q: gone %v, left %v, error %v", users, gone, left, err)
	}
}

// expectRefused kicks one user, who must stay.
func expectRefused(t *testing.T, k moves.Kicker, user, words string) {
	t.Helper()
	gone, left, err := moves.Kick(t.Context(), []moves.Kicker{k}, []string{user}, "", kickTime)
	if gone || len(left) == 0 || err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("kick of %q: gone %v, left %v, error %v; want one with %q", user, gone, left, err, words)
	}
}

// Proxied sessions are listed and end, over both protocols; those of other users,
// and those that go elsewhere, live on.
func TestKick_Proxy(t *testing.T) {
	t.Parallel()
	others := servers.Users{}
	for _, name := range slices.Concat(odd, masks) {
		others[name] = password
	}
	r := newRig(t, rigOptions{script: servers.WriteFile(t, kickPolicy, servers.Dir(t), "policy.lua"), others: others, dovecot: true})
	for at, p := range map[string]*servers.DovecotProxy{"Interposed": r.interposed, "Standalone": r.standalone} {
		bystander := loggedIn(t, "imap", p.Addr["imap"], user("three", 0))
		n := 0
		for way, k := range doveadms(t, p.Dovecot, moves.Proxy) {
			n++
			who, other := user("two", n), user("three", n)
			t.Run(at+"/"+way, func(t *testing.T) {
				expectSessions(t, k, []string{who})
				imap, pop3 := loggedIn(t, "imap", p.Addr["imap"], who), loggedIn(t, "pop3", p.Addr["pop3"], who)
				second := loggedIn(t, "imap", p.Addr["imap"], other)
				want := []string{
					who + " imap " + imap.IP + " 127.0.0.2",
					who + " pop3 " + pop3.IP + " 127.0.0.2",
				}
				expectSessions(t, k, []string{who}, want...)
				expectSessions(t, k, []string{strings.ToUpper(who)})
				expectSessions(t, k, []string{"*"})
				expectSessions(t, k, []string{who, other, "nobody"}, append(want, other+" imap "+second.IP+" 127.0.0.3")...)
				expectSessions(t, k, nil, append(want, other+" imap "+second.IP+" 127.0.0.3", user("three", 0)+" imap "+bystander.IP+" 127.0.0.3")...)

				expectGone(t, k, "127.0.0.3", who)
				if len(must(k.Sessions(t.Context(), []string{who}))(t)) != 2 {
					t.Error("a kick for another host ended a session")
				}
				expectGone(t, k, "127.0.0.2", who, "nobody", other)
				expectEnd(t, imap)
				expectEnd(t, pop3)
				expectSessions(t, k, []string{other}, other+" imap "+second.IP+" 127.0.0.3")
				expectGone(t, k, "", other)
				expectEnd(t, second)
				expectGone(t, k, "", other)
				if got := bystander.Backend(); got != "127.0.0.3" {
					t.Errorf("another user is at %q", got)
				}

				for _, name := range odd {
					c, twice := loggedIn(t, "imap", p.Addr["imap"], name), loggedIn(t, "pop3", p.Addr["pop3"], name)
					if got := must(k.Sessions(t.Context(), []string{name}))(t); len(got) != 2 {
						t.Errorf("%q has sessions %v", name, got)
					}
					expectGone(t, k, "", name)
					expectEnd(t, c)
					expectEnd(t, twice)
				}
				for _, name := range masks {
					c := loggedIn(t, "imap", p.Addr["imap"], name)
					if got := must(k.Sessions(t.Context(), []string{name}))(t); len(got) != 1 {
						t.Errorf("%q has sessions %v", name, got)
					}
					if servers.DovecotVersion(t) == "Dovecot23" { // where a name is a name
						expectGone(t, k, "", name)
						expectEnd(t, c)
						continue
					}
					expectRefused(t, k, name, "pattern")
					c.Close()
				}
				if got := bystander.Backend(); got != "127.0.0.3" {
					t.Errorf("another user is at %q", got)
				}
			})
		}
		bystander.Close()
	}
}

// must returns the value of a call that may have failed.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// The same where mail is: sessions that came without a Dovecot in between.
func TestKick_Backend(t *testing.T) {
	t.Parallel()
	users := servers.Users{}
	for _, name := range slices.Concat(odd, masks, []string{"alice@example.org", "bob@example.org"}) {
		if !strings.Contains(name, "/") { // it names a folder
			users[name] = password
		}
	}
	b := servers.StartDovecotBackend(t, "127.0.0.4", users, nil)
	bystander := loggedIn(t, "imap", b.Addr["imap"], "bob@example.org")
	for way, k := range doveadms(t, b, moves.Backend) {
		t.Run(way, func(t *testing.T) {
			const who = "alice@example.org"
			imap, pop3 := loggedIn(t, "imap", b.Addr["imap"], who), loggedIn(t, "pop3", b.Addr["pop3"], who)
			want := []string{who + " imap " + imap.IP, who + " pop3 " + pop3.IP}
			expectSessions(t, k, []string{who}, want...)
			expectSessions(t, k, nil, append(want, "bob@example.org imap "+bystander.IP)...)

			// What is proxied to where is unknown here, so it counts as there.
			expectGone(t, k, "127.0.0.4", who)
			expectEnd(t, imap)
			expectEnd(t, pop3)
			expectGone(t, k, "", who)

			for name := range users {
				if strings.Contains(name, "@") {
					continue
				}
				c := loggedIn(t, "imap", b.Addr["imap"], name)
				if got := must(k.Sessions(t.Context(), []string{name}))(t); len(got) != 1 {
					t.Errorf("%q has sessions %v", name, got)
				}
				if slices.Contains(masks, name) {
					expectRefused(t, k, name, "pattern")
					c.Close()
					continue
				}
				expectGone(t, k, "", name)
				expectEnd(t, c)
			}
			if got := bystander.Backend(); got != "127.0.0.4" {
				t.Errorf("another user is at %q", got)
			}
		})
	}
}

// Servers that refuse, are not there or say nothing: the error names them, and
// shows no secret.
func TestKick_Faults(t *testing.T) {
	t.Parallel()
	b := servers.StartDovecotBackend(t, "127.0.0.4", servers.Users{"alice@example.org": password}, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	away := servers.Addr(t, "127.0.0.1")
	const wrong = "not the secret"
	key, pass := uproxy.NewSecret(wrong), uproxy.NewSecret(wrong)
	for _, x := range []struct {
		opt   dovecot.DoveadmOptions
		words string
	}{
		{dovecot.DoveadmOptions{URL: "tcp:" + b.Addr["doveadm"], Password: pass}, "does not take the password"},
		{dovecot.DoveadmOptions{URL: "http://" + b.Addr["doveadm_http"], Password: pass}, "does not take the password"},
		{dovecot.DoveadmOptions{URL: "http://" + b.Addr["doveadm_http"], APIKey: key}, "does not take the key"},
		{dovecot.DoveadmOptions{URL: "http://" + b.Addr["doveadm"], APIKey: key}, ""},
		{dovecot.DoveadmOptions{URL: "tcp:" + b.Addr["doveadm_http"], Password: pass}, ""},
		{dovecot.DoveadmOptions{URL: "tcp:" + b.Addr["imap"], Password: pass}, "does not speak doveadm's protocol"},
		{dovecot.DoveadmOptions{URL: "http://" + b.Addr["imap"], Password: pass}, ""},
		{dovecot.DoveadmOptions{URL: "tcp:" + away, Password: pass}, "connection refused"},
		{dovecot.DoveadmOptions{URL: "http://" + away, APIKey: key}, "connection refused"},
		{dovecot.DoveadmOptions{URL: "tcp:" + silent.Addr().String(), Password: pass}, "no answer in 2s"},
		{dovecot.DoveadmOptions{URL: "http://" + silent.Addr().String(), APIKey: key}, "no answer in 2s"},
		{dovecot.DoveadmOptions{URL: "https://" + silent.Addr().String(), APIKey: key}, "no answer in 2s"},
	} {
		x.opt.Role, x.opt.Timeout = moves.Backend, 2*time.Second
		k := must(dovecot.NewDoveadm(x.opt))(t)
		gone, left, err := moves.Kick(t.Context(), []moves.Kicker{k}, []string{"alice@example.org"}, "", kickTime)
		if gone || len(left) > 0 || err == nil || !strings.Contains(err.Error(), x.words) || !strings.Contains(err.Error(), k.Name()) || strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: gone %v, left %v, error %v; want one with %q", x.opt.URL, gone, left, err, x.words)
		} else {
			t.Log(err)
		}
	}
}

// Dovecot 2.4 up to 2.4.4 with its own default of one client for each login process:
// it counts kicks, and the session lives on.
func TestKick_OneClient(t *testing.T) {
	t.Parallel()
	if servers.DovecotVersion(t) == "Dovecot23" {
		t.Skip("of Dovecot 2.4")
	}
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), dovecot: true, proxies: []string{
		"service imap-login {\n  restart_request_count = 1\n  client_limit = 1\n}",
	}})
	who := user("two", 0)
	for way, k := range doveadms(t, r.interposed.Dovecot, moves.Proxy) {
		t.Run(way, func(t *testing.T) {
			c := loggedIn(t, "imap", r.interposed.Addr["imap"], who)
			gone, left, err := moves.Kick(t.Context(), []moves.Kicker{k}, []string{who}, "", 3*time.Second)
			if gone || len(left) != 1 || err == nil || !strings.Contains(err.Error(), k.Name()+" counts kicks and ends no session: Dovecot 2.4 up to 2.4.4 needs client_limit above 1") {
				t.Errorf("gone %v, left %v, error %v", gone, left, err)
			}
			if got := c.Backend(); got != "127.0.0.2" {
				t.Errorf("the session is at %q", got)
			}
			c.Close()
		})
	}
}
