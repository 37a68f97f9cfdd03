package test

import (
	"testing"

	"usher/test/servers"
)

// One usher, three kinds of mail proxy: what the policy selects is where the
// user's mailbox is, and what goes wrong is told as what it is.
func TestPolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua")})

	for order, host := range map[string]string{"two": "127.0.0.2", "three": "127.0.0.3"} {
		for way, login := range map[string]func(c *servers.Client, user string) string{
			"Login":        func(c *servers.Client, user string) string { return c.Login(user, password) },
			"Plain":        func(c *servers.Client, user string) string { return c.AuthPlain(user, password, false) },
			"PlainInitial": func(c *servers.Client, user string) string { return c.AuthPlain(user, password, true) },
		} {
			t.Run("Selects/"+host+"/"+way, func(t *testing.T) {
				r.each(t, func(t *testing.T, protocol, addr string) {
					c := servers.Dial(t, protocol, addr)
					if reply := login(c, user(order, 0)); !c.OK(reply) {
						t.Fatal(reply)
					}
					if got := c.Backend(); got != host {
						t.Errorf("logged in at %s, want %s", got, host)
					}
					d := r.usher.Decided(t, c.IP)
					if d.Outcome != "routed" || d.Reason != "selected" || d.User != user(order, 0) || d.Service != protocol {
						t.Errorf("decision: %+v", d)
					}
				})
			})
		}
	}

	t.Run("Refuses", func(t *testing.T) {
		for _, tc := range []struct {
			name, user, password string
			want                 replies
			outcome, reason      string // "": Dovecot refuses it before usher is asked
		}{
			{"wrong_password", user("two", 0), "wrong", wrongPassword, "denied", "password"},
			{"unknown_user", "nobody-0@example.org", password, wrongPassword, "denied", "password"},
			{"policy_refuses", user("refuse", 0), password, wrongPassword, "denied", "policy"},
			{"policy_refuses_with_a_text", user("refuse", 7), password, refusedWithText, "denied", "policy"},
			{"policy_error", user("boom", 0), password, temporary, "tempfail", "policy_error"},
			{"policy_selects_nothing", user("none", 0), password, temporary, "tempfail", "no_selection"},
			{"wrong_password_and_policy_error", user("boom", 0), "wrong", wrongPassword, "denied", "password"},
		} {
			t.Run(tc.name, func(t *testing.T) {
				r.each(t, func(t *testing.T, protocol, addr string) {
					c := servers.Dial(t, protocol, addr)
					expect(t, protocol, c.Login(tc.user, tc.password), tc.want)
					if tc.reason == "password" && addr == r.interposed.Addr[protocol] {
						return // the upstream's refusal passes unchanged
					}
					d := r.usher.Decided(t, c.IP)
					if d.Outcome != tc.outcome || d.Reason != tc.reason {
						t.Errorf("decision %s %s, want %s %s", d.Outcome, d.Reason, tc.outcome, tc.reason)
					}
				})
			})
		}
	})

	// After every refusal above the proxies still take logins.
	t.Run("GoesOn", func(t *testing.T) {
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("three", 1), "127.0.0.3")
		})
	})
}

// The built-in policy: a user's mailbox is on one machine, whatever the
// protocol and the proxy.
func TestBuiltinPolicy_SameUserSameHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	used := map[string]bool{}
	for name := range people {
		var home string
		for _, f := range r.fronts {
			for _, protocol := range f.protocols() {
				if protocol == "smtp" || protocol == "submission" {
					continue // has no mailbox
				}
				c := servers.Dial(t, protocol, f.addr[protocol])
				if reply := c.Login(name, password); !c.OK(reply) {
					t.Fatalf("%s %s: %s: %s", f.name, protocol, name, reply)
				}
				got := c.Backend()
				c.Close()
				if home == "" {
					home = got
				}
				if got != home {
					t.Errorf("%s %s: %s is logged in at %s, before at %s", f.name, protocol, name, got, home)
				}
			}
		}
		used[home] = true
	}
	if len(used) != len(hosts) {
		t.Errorf("%d users are all at %v, want some at each of %v", len(people), used, hosts)
	}
}

func TestEveryBackendDown(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{"BuiltIn": "", "Script": testdata(t, "policy.lua")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{script: script, down: true})
			r.each(t, func(t *testing.T, protocol, addr string) {
				c := servers.Dial(t, protocol, addr)
				expect(t, protocol, c.Login(user("two", 0), password), temporary)
				if d := r.usher.Decided(t, c.IP); d.Outcome != "tempfail" || d.Reason != "no_backend" {
					t.Errorf("decision %s %s, want tempfail no_backend", d.Outcome, d.Reason)
				}
			})
		})
	}
}
