package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// The site file that operators copy, as it stands, before the one that needs no
// change.
func TestDeploy_PostfixSite(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	var main strings.Builder
	for _, name := range []string{"usher-site.cf", "usher.cf"} {
		text, err := os.ReadFile(servers.Deploy(t, "postfix/"+name))
		if err != nil {
			t.Fatal(err)
		}
		main.Write(text)
	}
	dir := servers.Dir(t)
	servers.WriteFile(t, "compatibility_level = 3.6\n"+main.String(), dir, "main.cf")
	servers.WriteFile(t, "", dir, "master.cf")
	for name, want := range map[string]string{
		"smtpd_sasl_type":             "dovecot",
		"smtpd_sasl_path":             "usher/auth",
		"smtpd_sasl_security_options": "noanonymous",
		"smtpd_tls_auth_only":         "yes",
	} {
		out, err := exec.Command("postconf", "-c", dir, "-hx", name).CombinedOutput()
		if err != nil {
			t.Fatalf("postconf: %v\n%s", err, out)
		}
		// A warning would stand here too.
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Sessions one after the other go over the connection that the one server process
// keeps, also after clients that left in the middle of a login.
func TestPostfix_KeptConnection(t *testing.T) {
	t.Parallel()
	postfix := servers.StartPostfix(t, servers.PostfixOptions{Processes: 1})
	usher := servers.StartUsher(t, `failure_delay: 0s
dovecot:
  listeners:
    - {address: "unix:`+postfix.Sock+`"}
`+verifying(t, people, ""))
	for n := range 10 {
		c := servers.Dial(t, "smtp", postfix.Addr)
		expect(t, "postfix", c.Login(user("two", n%8), "wrong"), notAuthenticated)
		c.Writeln("AUTH LOGIN")
		c.ExpectPattern(`^334 `)
		// Gone in the middle of a login, of which Postfix does not tell usher.
		c.Close()

		c = servers.Dial(t, "smtp", postfix.Addr)
		expect(t, "postfix", c.Login(user("three", n%8), password), authenticated)
		c.Close()
		if d := usher.Decided(t, c.IP); d.User != user("three", n%8) || d.Outcome != "passed" {
			t.Errorf("decision: %+v", d)
		}
	}
}

// An answer that comes after Postfix's ten seconds is a temporary failure, and
// never taken for the answer to a later login.
func TestPostfix_LateAnswer(t *testing.T) {
	t.Parallel()
	postfix := servers.StartPostfix(t, servers.PostfixOptions{Processes: 1})
	servers.StartUsher(t, `failure_delay: 11s
dovecot:
  listeners:
    - {address: "unix:`+postfix.Sock+`"}
`+verifying(t, people, ""))
	c := servers.Dial(t, "smtp", postfix.Addr)
	begin := time.Now()
	expect(t, "postfix", c.AuthPlain(user("two", 0), "wrong", true), tryLater)
	expect(t, "postfix", c.AuthPlain(user("two", 0), password, true), authenticated)
	c.Close()
	// Until the refusal has been told, if anybody listens.
	time.Sleep(time.Until(begin.Add(11500 * time.Millisecond)))
	expect(t, "postfix", servers.Dial(t, "smtp", postfix.Addr).Login(user("three", 0), password), authenticated)
}
