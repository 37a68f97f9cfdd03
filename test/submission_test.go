package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/test/servers"
)

// A submissionRig is one usher with Postfix and Exim in front of it, each by a
// unix socket and by TCP. They let those send who get past usher.
type submissionRig struct {
	usher  *servers.Usher
	yaml   string // of usher
	fronts []submissionFront
	tls    *servers.Certificate // of STARTTLS
}

type submissionFront struct {
	name    string
	program string // postfix or exim: the key of what it replies
	addr    string
}

type submissionOptions struct {
	listener string // more keys of usher's listeners
	more     string // YAML at the end of usher's configuration
}

// What Postfix and Exim tell, by program.
var (
	authenticated = replies{
		"postfix": regexp.MustCompile(`^235 2\.7\.0 `),
		"exim":    regexp.MustCompile(`^235 `),
	}
	notAuthenticated = replies{
		"postfix": regexp.MustCompile(`^535 5\.7\.8 `),
		"exim":    regexp.MustCompile(`^535 Incorrect authentication data`),
	}
	tryLater = replies{
		"postfix": regexp.MustCompile(`^454 4\.7\.0 `),
		"exim":    regexp.MustCompile(`^435 Unable to authenticate at present`),
	}
	aborted = replies{
		"postfix": regexp.MustCompile(`^501 5\.7\.0 `),
		"exim":    regexp.MustCompile(`^501 `),
	}
	taken = replies{
		"postfix": regexp.MustCompile(`^250 2\.0\.0 Ok: queued`),
		"exim":    regexp.MustCompile(`^250 OK id=`),
	}
	noRelay = replies{
		"postfix": regexp.MustCompile(`^554 5\.7\.1 `),
		"exim":    regexp.MustCompile(`^550 relay not permitted`),
	}
)

// foreign is in nobody's domain here: who may send to it may send to everybody.
const foreign = "somebody@elsewhere.example"

func newSubmissionRig(t *testing.T, o submissionOptions) *submissionRig {
	t.Helper()
	r := &submissionRig{tls: servers.NewCertificate(t, "127.0.0.1")}
	inet := servers.Addr(t, "127.0.0.1")
	eximSock := filepath.Join(servers.Dir(t), "exim.sock")

	postfix := servers.StartPostfix(t, servers.PostfixOptions{TLS: r.tls})
	r.front("Postfix_Unix", postfix.Addr)
	r.front("Postfix_Inet", servers.StartPostfix(t, servers.PostfixOptions{SASL: "inet:" + inet, TLS: r.tls}).Addr)
	r.front("Exim_Unix", servers.StartExim(t, servers.EximOptions{Socket: eximSock, TLS: r.tls}).Addr)
	r.front("Exim_Inet", servers.StartExim(t, servers.EximOptions{Socket: strings.Replace(inet, ":", " ", 1), TLS: r.tls}).Addr)

	var listeners strings.Builder
	for _, addr := range []string{"unix:" + postfix.Sock, "unix:" + eximSock, inet} {
		fmt.Fprintf(&listeners, "    - {address: %q%s}\n", addr, o.listener)
	}
	r.yaml = fmt.Sprintf("failure_delay: 0s\ndovecot:\n  listeners:\n%s%s", listeners.String(), o.more)
	r.usher = servers.StartUsher(t, r.yaml)
	noSecrets(t, r.usher)
	return r
}

func (r *submissionRig) front(name, addr string) {
	program, _, _ := strings.Cut(strings.ToLower(name), "_")
	r.fronts = append(r.fronts, submissionFront{name, program, addr})
}

// each runs f in parallel for every front, and returns when all are through.
func (r *submissionRig) each(t *testing.T, f func(t *testing.T, fr submissionFront)) {
	t.Helper()
	t.Run("each", func(t *testing.T) {
		for _, fr := range r.fronts {
			t.Run(fr.name, func(t *testing.T) {
				t.Parallel()
				f(t, fr)
			})
		}
	})
}

// eachWay is each with every way of saying a password.
func (r *submissionRig) eachWay(t *testing.T, f func(t *testing.T, fr submissionFront, w way)) {
	t.Helper()
	r.each(t, func(t *testing.T, fr submissionFront) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				f(t, fr, w)
			})
		}
	})
}

// noSecrets fails the test if the password of people got into usher's log.
func noSecrets(t *testing.T, u *servers.Usher) {
	t.Helper()
	t.Cleanup(func() {
		for _, line := range u.Log.Lines(0) {
			if strings.Contains(line, password) {
				t.Errorf("a password is in usher's log: %s", line)
			}
		}
	})
}

// verifying is the end of a configuration whose passwd_file knows users. more
// are lines of that file.
func verifying(t *testing.T, users servers.Users, more string) string {
	t.Helper()
	path := users.Passwd(t, servers.Dir(t), "passwd")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	servers.WriteFile(t, string(text)+more, path)
	return fmt.Sprintf("passdb:\n  - {driver: passwd_file, path: %q}\n", path)
}

// A way is one in which an SMTP client may say its password.
type way struct {
	name, mech string
	login      func(c *servers.Client, user, pass string) string
}

var ways = []way{
	{"Login", "LOGIN", (*servers.Client).Login},
	{"LoginInitial", "LOGIN", (*servers.Client).LoginInitial},
	{"Plain", "PLAIN", func(c *servers.Client, user, pass string) string { return c.AuthPlain(user, pass, false) }},
	{"PlainInitial", "PLAIN", func(c *servers.Client, user, pass string) string { return c.AuthPlain(user, pass, true) }},
}

// Users of a policy that selects backends, holds, refuses and fails: those that
// get past it may send mail and are taken nowhere, the others may not send.
func TestSubmission(t *testing.T) {
	t.Parallel()
	r := newSubmissionRig(t, submissionOptions{more: verifying(t, people,
		"gone@example.org:{PLAIN}gone::::::nologin\n") + fmt.Sprintf(`director:
  script: %q
  timeout: 1s
  steps: 1000000000
backend_server_monitoring:
  backend_servers:
    - {protocol: smtp, host: 127.0.0.2, port: 1}
`, testdata(t, "policy.lua"))})

	for _, order := range []string{"two", "none", "hold"} {
		t.Run("Passes/"+order, func(t *testing.T) {
			r.eachWay(t, func(t *testing.T, fr submissionFront, w way) {
				c := servers.Dial(t, "smtp", fr.addr)
				expect(t, fr.program, w.login(c, user(order, 1), password), authenticated)
				expect(t, fr.program, c.Submit(foreign), taken)
				d := r.usher.Decided(t, c.IP)
				if d.Outcome != "passed" || d.Reason != "nologin" || d.By != "passdb:passwd_file" || d.Backend != "" ||
					d.Adapter != "dovecot" || d.Service != "smtp" || d.User != user(order, 1) ||
					d.Mech != w.mech || d.LIP != "127.0.0.1" || d.TLS {
					t.Errorf("decision: %+v", d)
				}
			})
		})
	}

	for _, tc := range []struct {
		name, user, password string
		want                 replies
		outcome, reason      string
	}{
		{"wrong_password", user("two", 0), "wrong", notAuthenticated, "denied", "password"},
		{"unknown_user", "nobody-0@example.org", password, notAuthenticated, "denied", "password"},
		{"disabled", "gone@example.org", "gone", notAuthenticated, "denied", "user_disabled"},
		{"empty_user", "", password, notAuthenticated, "denied", "bad_request"},
		{"empty_password", user("two", 0), "", notAuthenticated, "denied", "password"},
		{"nul_in_password", user("two", 0), password + "\x00", notAuthenticated, "denied", "bad_request"},
		{"line_feed_in_user", "two\n", password, notAuthenticated, "denied", "bad_request"},
		{"policy_refuses", user("refuse", 0), password, notAuthenticated, "denied", "policy"},
		{"policy_error", user("boom", 0), password, tryLater, "tempfail", "policy_error"},
		{"policy_timeout", user("slow", 0), password, tryLater, "tempfail", "policy_timeout"},
		{"wrong_password_and_policy_error", user("boom", 0), "wrong", notAuthenticated, "denied", "password"},
	} {
		t.Run("Refuses/"+tc.name, func(t *testing.T) {
			r.eachWay(t, func(t *testing.T, fr submissionFront, w way) {
				if tc.user == "" && w.name == "LoginInitial" {
					return // an empty initial response is none
				}
				c := servers.Dial(t, "smtp", fr.addr)
				expect(t, fr.program, w.login(c, tc.user, tc.password), tc.want)
				expect(t, fr.program, c.Submit(foreign), noRelay)
				if d := r.usher.Decided(t, c.IP); d.Outcome != tc.outcome || d.Reason != tc.reason {
					t.Errorf("decision %s %s, want %s %s", d.Outcome, d.Reason, tc.outcome, tc.reason)
				}
			})
		})
	}

	// One session, whose server process keeps its connection to usher, as long
	// as that is not closed to say that something is temporary.
	t.Run("TriesAgain", func(t *testing.T) {
		r.each(t, func(t *testing.T, fr submissionFront) {
			c := servers.Dial(t, "smtp", fr.addr)
			expect(t, fr.program, c.Login(user("two", 0), "wrong"), notAuthenticated)
			expect(t, fr.program, c.AuthPlain(user("boom", 0), password, true), tryLater)
			for _, line := range []string{"AUTH LOGIN", "AUTH PLAIN"} {
				c.Writeln(line)
				c.ExpectPattern(`^334 `)
				c.Writeln("*")
				expect(t, fr.program, c.Readln(), aborted)
			}
			expect(t, fr.program, c.Login(user("two", 0), password), authenticated)
			expect(t, fr.program, c.Submit(foreign), taken)
		})
	})

	// Twenty sessions at once; each gets its own answer.
	t.Run("Together", func(t *testing.T) {
		expected := []struct {
			user, password string
			want           replies
		}{
			{user("two", 0), password, authenticated},
			{user("two", 0), "wrong", notAuthenticated},
			{user("boom", 0), password, tryLater},
			{user("refuse", 0), password, notAuthenticated},
			{user("three", 0), password, authenticated},
		}
		r.each(t, func(t *testing.T, fr submissionFront) {
			var jobs []func()
			for n := range 20 {
				c, e := servers.Dial(t, "smtp", fr.addr), expected[n%len(expected)]
				jobs = append(jobs, func() { expect(t, fr.program, c.Login(e.user, e.password), e.want) })
			}
			together(jobs...)
		})
	})
}

// Passwords reach usher as they were typed, byte for byte, and no other will do.
func TestSubmission_Passwords(t *testing.T) {
	t.Parallel()
	users := servers.Users{}
	for name, pass := range map[string]string{
		"utf8":    "pässwörd€",
		"latin1":  "p\xe4ssword",
		"space":   " a  b ",
		"equals":  "=a=b==",
		"one":     "\x01",
		"escape":  "a\x01t\x01\x01n",
		"tab":     "a\tb",
		"lines":   "a\r\nb\n",
		"del":     "a\x7fb",
		"percent": "%u$auth1${if",
		"colon":   "a:b:{PLAIN}",
		"long":    strings.Repeat("x", 1000),
	} {
		users[name+"@example.org"] = pass
	}
	users["dörte €@exämple.org"] = "name"
	users["a=b c+d@example.org"] = "name"
	r := newSubmissionRig(t, submissionOptions{more: verifying(t, users, "")})
	for name, pass := range users {
		t.Run(name, func(t *testing.T) {
			r.eachWay(t, func(t *testing.T, fr submissionFront, w way) {
				c := servers.Dial(t, "smtp", fr.addr)
				expect(t, fr.program, w.login(c, name, pass+"x"), notAuthenticated)
				expect(t, fr.program, w.login(c, name, pass), authenticated)
			})
		})
	}
}

// A password that nobody verified opens no relay.
func TestSubmission_Passthrough(t *testing.T) {
	t.Parallel()
	r := newSubmissionRig(t, submissionOptions{more: `passdb:
  - {driver: passthrough}
backend_server_monitoring:
  backend_servers:
    - {protocol: smtp, host: 127.0.0.2, port: 1}
`})
	r.eachWay(t, func(t *testing.T, fr submissionFront, w way) {
		c := servers.Dial(t, "smtp", fr.addr)
		expect(t, fr.program, w.login(c, user("two", 0), password), notAuthenticated)
		expect(t, fr.program, c.Submit(foreign), noRelay)
		if d := r.usher.Decided(t, c.IP); d.Outcome != "denied" || d.Reason != "unverified_smtp" {
			t.Errorf("decision %s %s, want denied unverified_smtp", d.Outcome, d.Reason)
		}
	})
	r.usher.Logged(t, 0, "why everybody is refused", func(line string) bool {
		return strings.Contains(line, `"level":"warn"`) && strings.Contains(line, "passthrough would be an open relay")
	})
}

func TestSubmission_RequireSecured(t *testing.T) {
	t.Parallel()
	r := newSubmissionRig(t, submissionOptions{listener: ", require_secured: true", more: verifying(t, people, "")})
	r.eachWay(t, func(t *testing.T, fr submissionFront, w way) {
		c := servers.Dial(t, "smtp", fr.addr)
		c.Writeln("AUTH " + w.mech) // refused before anything is asked for
		expect(t, fr.program, c.Readln(), notAuthenticated)
		expect(t, fr.program, c.Submit(foreign), noRelay)
		if d := r.usher.Decided(t, c.IP); d.Outcome != "denied" || d.Reason != "bad_request" || d.TLS {
			t.Errorf("in cleartext: decision %+v", d)
		}

		c = servers.Dial(t, "smtp", fr.addr)
		c.SMTPStartTLS(r.tls)
		expect(t, fr.program, w.login(c, user("two", 0), password), authenticated)
		expect(t, fr.program, c.Submit(foreign), taken)
		if d := r.usher.Decided(t, c.IP); d.Outcome != "passed" || !d.TLS {
			t.Errorf("in TLS: decision %+v", d)
		}
	})
}

// What the sessions see that were there before usher went. Postfix holds a
// connection to usher in each of them, Exim connects at each AUTH.
func TestSubmission_UsherGone(t *testing.T) {
	t.Parallel()
	r := newSubmissionRig(t, submissionOptions{more: verifying(t, people, "") + fmt.Sprintf(
		"director:\n  script: %q\n  timeout: 15s\n  steps: 1000000000\n", testdata(t, "policy.lua"))})
	session := map[submissionFront]*servers.Client{}
	for _, fr := range r.fronts {
		session[fr] = servers.Dial(t, "smtp", fr.addr)
	}
	wrong := func(t *testing.T, fr submissionFront) {
		expect(t, fr.program, session[fr].AuthPlain(user("two", 0), "wrong", true), notAuthenticated)
	}
	gone := func(t *testing.T, fr submissionFront) {
		expect(t, fr.program, session[fr].AuthPlain(user("two", 0), password, true), tryLater)
	}
	step := func(name string, ask func(t *testing.T, fr submissionFront)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			for _, fr := range r.fronts {
				t.Run(fr.name, func(t *testing.T) { ask(t, fr) })
			}
		})
	}

	step("Before", wrong)
	// Killed with a login in hand of each.
	jobs := []func(){func() {
		begun := 0
		r.usher.Logged(t, 0, "that the policy is at work on each login", func(line string) bool {
			if strings.Contains(line, "slow login begins") {
				begun++
			}
			return begun == len(r.fronts)
		})
		r.usher.Kill()
	}}
	for _, fr := range r.fronts {
		jobs = append(jobs, func() {
			expect(t, fr.program, session[fr].AuthPlain(user("slow", 0), password, true), tryLater)
		})
	}
	together(jobs...)
	step("Killed", gone)
	r.usher.Restart(t)
	step("KilledAndBack", wrong)

	r.usher.Stop()
	r.usher.Restart(t)
	step("Restarted", wrong)

	// Other settings, another server on the same socket.
	r.usher.Reconfigure(t, strings.ReplaceAll(r.yaml, "- {address:", "- {mechanisms: [LOGIN, PLAIN], address:"))
	if _, stderr, status := r.usher.Run(t, "reload"); status != 0 {
		t.Fatalf("usher reload: status %d: %s", status, stderr)
	}
	step("Reloaded", wrong)
	step("After", func(t *testing.T, fr submissionFront) {
		c := session[fr]
		expect(t, fr.program, c.Login(user("two", 0), password), authenticated)
		expect(t, fr.program, c.Submit(foreign), taken)
	})
}

// Dovecot's own auth server checks the passwords, usher stands before it. The
// policy is asked about users that are to be proxied, and may refuse them.
func TestSubmission_Interposed(t *testing.T) {
	t.Parallel()
	type attempt struct {
		user, password, outcome, reason, by string
		auth, submit                        replies
	}
	wrong := attempt{user("two", 0), "wrong", "denied", "password", "upstream", notAuthenticated, noRelay}
	right := attempt{user("two", 0), password, "passed", "nologin", "upstream", authenticated, taken}
	for _, up := range []struct {
		name     string
		start    func(t *testing.T) *servers.Dovecot
		attempts []attempt
	}{
		{"NotProxied", func(t *testing.T) *servers.Dovecot {
			return servers.StartDovecotBackend(t, "127.0.0.2", people, nil)
		}, []attempt{
			wrong, right,
			{user("refuse", 0), password, "passed", "nologin", "upstream", authenticated, taken},
		}},
		{"Proxied", func(t *testing.T) *servers.Dovecot {
			return servers.StartDovecotProxy(t, "127.0.0.1", people).Dovecot
		}, []attempt{
			wrong, right,
			{user("refuse", 0), password, "denied", "policy", "policy:policy", notAuthenticated, noRelay},
			{user("boom", 0), password, "tempfail", "policy_error", "usher", tryLater, noRelay},
		}},
	} {
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			upstream := up.start(t)
			r := newSubmissionRig(t, submissionOptions{
				listener: fmt.Sprintf(", upstream: \"unix:%s/auth-client\"", upstream.Base),
				more:     fmt.Sprintf("director:\n  script: %q\n", testdata(t, "policy.lua")),
			})
			r.each(t, func(t *testing.T, fr submissionFront) {
				for _, initial := range []bool{true, false} {
					for _, a := range up.attempts {
						c := servers.Dial(t, "smtp", fr.addr)
						expect(t, fr.program, c.AuthPlain(a.user, a.password, initial), a.auth)
						expect(t, fr.program, c.Submit(foreign), a.submit)
						d := r.usher.Decided(t, c.IP)
						if d.Outcome != a.outcome || d.Reason != a.reason || d.By != a.by || d.Service != "smtp" ||
							d.Mech != "PLAIN" || d.User != a.user || d.Backend != "" {
							t.Errorf("decision: %+v, want %s %s by %s", d, a.outcome, a.reason, a.by)
						}
					}
				}
			})

			waiting := map[submissionFront]*servers.Client{}
			for _, fr := range r.fronts {
				waiting[fr] = servers.Dial(t, "smtp", fr.addr)
			}
			upstream.Kill()
			for fr, c := range waiting {
				t.Run("Gone/"+fr.name, func(t *testing.T) {
					expect(t, fr.program, c.AuthPlain(user("two", 0), password, true), tryLater)
					expect(t, fr.program, c.Submit(foreign), noRelay)
					if d := r.usher.Decided(t, c.IP); d.Outcome != "tempfail" || d.Reason != "upstream_unavailable" {
						t.Errorf("decision %s %s, want tempfail upstream_unavailable", d.Outcome, d.Reason)
					}
				})
			}
		})
	}
}
