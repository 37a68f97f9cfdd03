package test

import (
	"fmt"
	"strings"
	"testing"

	"usher/test/servers"
)

// monitored are users that checks log in as, and whose passwords are hard to say.
var monitored = servers.Users{
	"quoted@example.org":  `pass "w\ord {5}`,
	"letters@example.org": "pässwörd €",
}

// A Dovecot is up by every protocol, in every way to speak to it, for users with
// whatever passwords.
func TestMonitor_RealServers(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t, "CA of the tests")
	userAt := map[string]string{"127.0.0.2": "quoted@example.org", "127.0.0.3": "letters@example.org"}
	hosts := []string{"127.0.0.2", "127.0.0.3"}
	dovecot := servers.StartDovecotServices(t, hosts, monitored, ca.Issue(t, anHour(), hosts...))
	var entries []string
	for _, host := range hosts {
		for _, protocol := range append([]string{"lmtp"}, servers.LoginProtocols...) {
			for mode, port := range dovecot.Port[protocol] {
				entries = append(entries, entry(usherProtocol(protocol), host, port, as(userAt[host], monitored[userAt[host]]), inMode(mode)))
			}
		}
	}
	w := startWatcher(t, ca.Certificate, once, entries...)
	for _, b := range w.status(t).Backends {
		if b.Check != "up" {
			t.Errorf("%s %s: %s: %s", b.Protocol, b.Backend, b.Check, b.Error)
		}
	}
	var shown []string
	for _, host := range hosts {
		reports, exit := w.checked(t, host)
		if exit != 0 || len(reports) != len(entries)/2 {
			t.Errorf("usher backend check %s: exit status %d, %d reports", host, exit, len(reports))
		}
		for protocol, ports := range dovecot.Port {
			for mode, port := range ports {
				t.Run(fmt.Sprintf("%s/%s/%s", strings.Split(userAt[host], "@")[0], protocol, mode), func(t *testing.T) {
					r := reports[fmt.Sprintf("%s:%d", host, port)]
					if !r.OK {
						t.Errorf("failed: %s", r.Error)
					}
					shown = append(shown, expectTalk(t, protocol, mode, r.Lines))
				})
			}
		}
	}
	human, _, exit := w.Run(t, "backend", "check", fmt.Sprintf("%s:%d", hosts[0], dovecot.Port["imap"]["haproxy-starttls"]))
	if exit != 0 || strings.Count(human, "\nwell, in ") != 1 {
		t.Errorf("usher backend check: exit status %d\n%s", exit, human)
	}
	w.tellsNobody(t, monitored, append(shown, human)...)
}

// inMode has the settings of an entry for one of servers.ListenerModes.
func inMode(mode string) string {
	var settings []string
	if strings.HasPrefix(mode, "haproxy") {
		settings = append(settings, "haproxy_v2: true")
	}
	switch {
	case strings.HasSuffix(mode, "starttls"):
		settings = append(settings, "starttls: true")
	case strings.HasSuffix(mode, "tls"):
		settings = append(settings, "tls: true")
	}
	return strings.Join(append(settings, "weight: 100"), ", ")
}

// usherProtocol is what usher calls one of servers.LoginProtocols.
func usherProtocol(protocol string) string {
	if protocol == "submission" {
		return "smtp"
	}
	return protocol
}

// talks are lines that a check shows of each protocol, in their order.
var talks = map[string][]string{
	"imap":       {"\nS: * OK [CAPABILITY ", " LOGIN \"", " ****", "\nS: a", " OK ", " LOGOUT", "\nS: * BYE "},
	"pop3":       {"\nS: +OK ", "\nC: CAPA", "****", "\nS: +OK Logged in.", "\nC: QUIT"},
	"submission": {"\nS: 220 ", "\nC: EHLO [127.0.0.1]", "\nS: 250-AUTH PLAIN LOGIN", "\nC: AUTH PLAIN ****", "\nS: 235 ", "\nC: QUIT", "\nS: 221 "},
	"lmtp":       {"\nS: 220 ", "\nC: LHLO [127.0.0.1]", "\nC: MAIL FROM:<>", "\nC: RCPT TO:<", "\nS: 250 ", "\nC: RSET", "\nC: QUIT", "\nS: 221 "},
	"sieve":      {"\nS: \"IMPLEMENTATION\" ", "\nS: OK ", "\nC: AUTHENTICATE \"PLAIN\" \"****\"", "\nS: OK ", "\nC: LOGOUT", "\nS: OK "},
}

// startTLS are the commands of it.
var startTLS = map[string]string{
	"imap": "\nC: a1 STARTTLS", "pop3": "\nC: STLS", "submission": "\nC: STARTTLS", "lmtp": "\nC: STARTTLS", "sieve": "\nC: STARTTLS",
}

// expectTalk looks for the steps of a check in what it showed, and returns that.
func expectTalk(t *testing.T, protocol, mode string, lines []string) string {
	t.Helper()
	steps := []string{"* connected to 127.0.0."}
	if strings.HasPrefix(mode, "haproxy") {
		steps = append(steps, "\n* PROXY v2 header sent")
	}
	const secured = "\n* TLS 1.3, certificate for 127.0.0.2, 127.0.0.3 until "
	talk := talks[protocol]
	switch {
	case strings.HasSuffix(mode, "starttls"):
		steps = append(steps, talk[0], startTLS[protocol], secured)
		if protocol != "sieve" {
			talk = talk[1:]
		}
	case strings.HasSuffix(mode, "tls"):
		steps = append(steps, secured)
	}
	return inOrder(t, lines, append(steps, talk...)...)
}
