package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// Mail submission and ManageSieve are logins as those for mail are: they reach
// the backend that the policy chose, Dovecot's own submission and managesieve
// processes.
func TestDovecot_SubmissionAndSieve(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), dovecot: true})
	for order, host := range map[string]string{"two": "127.0.0.2", "three": "127.0.0.3"} {
		for _, f := range r.fronts {
			for _, protocol := range []string{"submission", "sieve"} {
				t.Run(host+"/"+f.name+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					c := servers.Dial(t, protocol, f.addr[protocol])
					expectBackend(t, c, user(order, 0), host)
					if d := r.usher.Decided(t, c.IP); d.Outcome != "routed" || d.Service != protocol || d.User != user(order, 0) {
						t.Errorf("decision: %+v", d)
					}
				})
			}
		}
	}
}

// proxy is a Dovecot of the rig and its name among the fronts.
type proxy struct {
	name string
	*servers.DovecotProxy
}

func (r *rig) proxies(t *testing.T) []proxy {
	version := servers.DovecotVersion(t)
	return []proxy{{version + "_Interposed", r.interposed}, {version + "_Standalone", r.standalone}}
}

// expectReplies compares the words on recipients with the beginnings of what they
// should be.
func expectReplies(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("recipients got %q, want %q", got, want)
	}
}

// Recipients of one message reach their own backends. Who is unknown is refused
// for good, and only who is unknown: whatever else is wrong, the mail may come
// again.
func TestDovecot_LMTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), dovecot: true})
	var sent []string
	for _, p := range r.proxies(t) {
		t.Run(p.name, func(t *testing.T) {
			sent = append(sent, p.name)
			c := servers.Dial(t, "lmtp", p.Addr["lmtp"])
			expectReplies(t, c.Deliver(p.name, user("two", 0), user("three", 0), user("two", 99), user("two", 1)),
				"250 ", "250 ", "550 ", "250 ")
			expectReplies(t, c.Deliver("never", user("boom", 0), user("none", 0)), "451 ", "451 ")
			expectReplies(t, c.Deliver("again "+p.name, user("three", 0), user("boom", 0)), "250 ", "451 ")
			for _, order := range []string{"boom", "none", "refuse"} {
				for _, reply := range c.Deliver("never", user(order, 1)) {
					if strings.HasPrefix(reply, "5") {
						t.Errorf("%s: %s", order, reply)
					}
				}
			}
			at := map[string][]string{
				user("two", 0): sent, user("two", 1): sent, user("three", 0): nil,
			}
			r.expectDelivered(t, hosts[0], at)
			at = map[string][]string{user("two", 0): nil, user("two", 1): nil}
			for _, name := range sent {
				at[user("three", 0)] = append(at[user("three", 0)], name, "again "+name)
			}
			r.expectDelivered(t, hosts[1], at)
		})
	}

	t.Run("BackendDown", func(t *testing.T) {
		r.backends[hosts[1]].Stop()
		for _, p := range r.proxies(t) {
			c := servers.Dial(t, "lmtp", p.Addr["lmtp"])
			// At once, when only the proxy has seen it, and once usher has.
			expectReplies(t, c.Deliver("at once", user("three", 1), user("two", 2)), "451 ", "250 ")
		}
		from := 0
		r.usher.Logged(t, from, "that the backend is down", func(line string) bool {
			return strings.Contains(line, hosts[1]) && strings.Contains(line, "down")
		})
		for _, p := range r.proxies(t) {
			c := servers.Dial(t, "lmtp", p.Addr["lmtp"])
			expectReplies(t, c.Deliver("later", user("three", 1), user("two", 2)), "451 ", "250 ")
		}
		r.expectDelivered(t, hosts[0], map[string][]string{user("two", 2): {"at once", "at once", "later", "later"}})
	})
}

// expectDelivered compares the subjects of what users have at a backend.
func (r *rig) expectDelivered(t *testing.T, host string, want map[string][]string) {
	t.Helper()
	for name, subjects := range want {
		subjects = slices.Sorted(slices.Values(subjects))
		if got := r.backends[host].Delivered(t, name); !slices.Equal(got, subjects) {
			t.Errorf("%s has got %q at %s, want %q", name, got, host, subjects)
		}
	}
}

// doveadm on a proxy works where the user's logins go. For all users, or those
// that a pattern means, it asks who they are: interposed, Dovecot's auth knows.
// The commands print nothing: doveadm 2.3 stands still now and then when two
// backends print at the same time.
func TestDovecot_Doveadm(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{dovecot: true})
	home := map[string]string{}
	for name := range people {
		c := servers.Dial(t, "imap", r.interposed.Addr["imap"])
		if reply := c.Login(name, password); !c.OK(reply) {
			t.Fatal(reply)
		}
		home[name] = c.Backend()
		c.Close()
	}
	for _, p := range r.proxies(t) {
		for name, tc := range map[string]struct {
			users  []string // the arguments
			prefix string   // of the names that are meant
		}{
			"OneUser":   {[]string{"-u", user("two", 0)}, user("two", 0)},
			"OtherUser": {[]string{"-u", user("two", 1)}, user("two", 1)},
			"Pattern":   {[]string{"-u", "three-*@example.org"}, "three-"},
			"All":       {[]string{"-A"}, ""},
		} {
			if p.DovecotProxy == r.standalone && !strings.HasSuffix(name, "User") {
				continue
			}
			t.Run(p.name+"/"+name, func(t *testing.T) {
				mailbox := p.name + name
				args := append(append([]string{"mailbox", "create"}, tc.users...), mailbox)
				if _, stderr, status := p.Doveadm(t, args...); status != 0 {
					t.Fatalf("doveadm %s: status %d: %s", args, status, stderr)
				}
				for name, backend := range home {
					for host, d := range r.backends {
						want := strings.HasPrefix(name, tc.prefix) && host == backend
						if got := d.HasMailbox(t, name, mailbox); got != want {
							t.Errorf("%s, at home at %s: made at %s: %t", name, backend, host, got)
						}
					}
				}
			})
		}
	}
	t.Run(r.fronts[0].name+"/Unknown", func(t *testing.T) {
		_, stderr, status := r.interposed.Doveadm(t, "mailbox", "create", "-u", "nobody@example.org", "new")
		if status != 67 { // EX_NOUSER
			t.Errorf("status %d, want 67: %s", status, stderr)
		}
	})
}

// While doveadm goes through 100,000 users logins are answered as if it did not,
// and it is at work on the first long before it knows the last.
func TestDovecot_Doveadm_100000Users(t *testing.T) {
	t.Parallel()
	// Its auth breaks a LIST off when the client reads slower than it writes,
	// without usher too (mended in 2.4.3).
	servers.NeedDovecot23(t)
	const many = 100_000
	others := servers.Users{}
	for n := range many {
		others[fmt.Sprintf("zz%06d@example.org", n)] = password
	}
	r := newRig(t, rigOptions{others: others, dovecot: true})
	login := func() time.Duration {
		c := servers.Dial(t, "imap", r.interposed.Addr["imap"])
		defer c.Close()
		begin := time.Now()
		if reply := c.Login(user("two", 0), password); !c.OK(reply) {
			t.Errorf("login: %s", reply)
		}
		return time.Since(begin)
	}
	before := login()

	done := make(chan struct{})
	var slowest time.Duration
	logins := 0
	together(func() {
		for running(done) {
			slowest = max(slowest, login())
			logins++
		}
	}, func() {
		defer close(done)
		begin := time.Now()
		listed := 0
		again(t, func() bool {
			p := r.interposed.StartDoveadm(t, "user", "*")
			defer p.Kill() // SIGTERM does not end one that waits for its auth
			select {
			case <-p.Done():
			case <-time.After(8 * time.Second):
				return false
			}
			for _, line := range p.Log.Lines(0) {
				if strings.HasSuffix(line, "@example.org") {
					listed++
				}
			}
			return true
		})
		t.Logf("doveadm user '*' took %s", time.Since(begin))
		if want := many + len(people); listed != want {
			t.Errorf("doveadm user '*': %d users, want %d", listed, want)
		}
		begin = time.Now()
		const some = 200
		again(t, func() bool {
			from := r.usher.Log.Len()
			all := r.interposed.StartDoveadm(t, "mailbox", "create", "-A", "new")
			defer all.Kill()
			for end := time.Now().Add(8 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
				asked := 0
				for _, line := range r.usher.Log.Lines(from) {
					if strings.Contains(line, `"service":"doveadm"`) {
						asked++
					}
				}
				if asked >= some {
					return true
				}
			}
			return false
		})
		t.Logf("doveadm -A: at user %d after %s", some, time.Since(begin))
	})
	t.Logf("%d logins meanwhile, the slowest took %s, one before %s", logins, slowest, before)
	if logins == 0 || slowest > 5*time.Second {
		t.Errorf("%d logins, the slowest took %s", logins, slowest)
	}
}

// again tries until it went well, a few times: under load Dovecot 2.3's auth now and
// then keeps the last names of a long LIST to itself, of one in twenty with usher
// and without, and doveadm waits for them.
func again(t *testing.T, try func() bool) {
	t.Helper()
	for range 4 {
		if try() {
			return
		}
		t.Log("Dovecot's auth does not end its LIST; once more")
	}
	t.Error("it never went well")
}

// Dovecot 2.4 still takes the socket as the argument of a login process, the only
// way of 2.3, and prefers it to login_socket_path.
func TestDovecot_SocketNamedInExecutable(t *testing.T) {
	t.Parallel()
	var settings []string
	if servers.DovecotVersion(t) != "Dovecot23" {
		settings = append(settings, "login_socket_path = usher.d/nobody")
	}
	for _, program := range []string{"imap-login", "pop3-login", "submission-login", "managesieve-login"} {
		settings = append(settings, fmt.Sprintf("service %s {\n  executable = %s usher.d/sock\n}", program, program))
	}
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), dovecot: true, proxies: settings})
	r.each(t, func(t *testing.T, protocol, addr string) {
		expectBackend(t, servers.Dial(t, protocol, addr), user("three", 0), "127.0.0.3")
		expect(t, protocol, servers.Dial(t, protocol, addr).Login(user("refuse", 0), password), wrongPassword)
	})
}
