package test

import (
	"fmt"
	"strings"
	"testing"

	"usher/test/servers"
)

// Hosts that move, and SRV names whose records come and go, while usher runs with
// a DNS of its own.
func TestMonitor_Names(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t, "CA of the tests")
	ips := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"}
	dovecot := servers.StartDovecotServices(t, ips, monitored, ca.Issue(t, anHour(), "mail.example.org"))
	port, secure := dovecot.Port["imap"]["plain"], dovecot.Port["imap"]["tls"]
	const srv = "_imap._tcp.example.org."
	record := func(priority, weight int, host string) string {
		return fmt.Sprintf("%s 1 SRV %d %d %d %s.example.org.", srv, priority, weight, port, host)
	}
	dns := servers.StartSystemDNS(t,
		"mail.example.org. 1 A 127.0.0.2",
		"a.example.org. 1 A 127.0.0.3", "b.example.org. 1 A 127.0.0.4", "c.example.org. 1 A 127.0.0.6",
		record(10, 60, "a"), record(10, 30, "b"))
	w := startWatcherWith(t, dns, ca.Certificate, steady,
		entry("imap", "mail.example.org", secure, "tls: true, deep_check: true"),
		fmt.Sprintf("{protocol: imap, srv: %s, deep_check: true}", srv))
	// shows compares all backends of status with lines like `HOST ADDRESS WEIGHT`.
	shows := func(want ...string) {
		t.Helper()
		var got []string
		for _, b := range w.status(t).Backends {
			got = append(got, fmt.Sprintf("%s %s %d", strings.TrimSuffix(b.Host, "."), b.Address, b.Weight))
			if b.Check != "up" || b.Error != "" {
				t.Errorf("%s: %s (%s)", b.Backend, b.Check, b.Error)
			}
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("status shows %q, want %q", got, want)
		}
	}
	logged := func(from int, words ...string) {
		t.Helper()
		w.Logged(t, from, strings.Join(words, " "), func(line string) bool {
			for _, word := range words {
				if !strings.Contains(line, word) {
					return false
				}
			}
			return true
		})
	}
	w.allUp(t)
	shows("mail.example.org 127.0.0.2 100", "a.example.org 127.0.0.3 100", "b.example.org 127.0.0.4 50")

	from := w.Log.Len()
	dns.Set(t, "mail.example.org. 1 A 127.0.0.5")
	logged(from, "name has another address", `"host":"mail.example.org"`, `"addr":"127.0.0.5"`)
	// Checks and logins go there at once, and the certificate is the name's.
	reports, exit := w.checked(t, fmt.Sprintf("mail.example.org:%d", secure))
	for _, r := range reports {
		inOrder(t, r.Lines, fmt.Sprintf("* connected to 127.0.0.5:%d", secure), "certificate for mail.example.org until ", "C: a")
	}
	if exit != 0 || len(reports) != 1 {
		t.Errorf("usher backend check: exit status %d, %d reports", exit, len(reports))
	}
	shows("mail.example.org 127.0.0.5 100", "a.example.org 127.0.0.3 100", "b.example.org 127.0.0.4 50")

	from = w.Log.Len()
	dns.Set(t, record(10, 60, "c"), record(20, 60, "a"))
	logged(from, "SRV name has other records", "c.example.org")
	w.becomes(t, from, fmt.Sprintf("c.example.org:%d", port), "up")
	shows("mail.example.org 127.0.0.5 100", "c.example.org 127.0.0.6 100", "a.example.org 127.0.0.3 0")
	// nginx is given plain backends alone, and a stands by.
	for n := range 10 {
		if at, want := w.login(t, newcomer(n)), fmt.Sprintf("127.0.0.6:%d", port); at != want {
			t.Errorf("%s is taken to %s, want %s", newcomer(n), at, want)
		}
	}

	// What DNS last said stands while it fails, and when it is gone.
	from = w.Log.Len()
	dns.Mode(servers.DNSSilent)
	logged(from, "SRV name has no answer, its last backends stand")
	logged(from, "name does not resolve, its last address stands", `"host":"mail.example.org"`)
	shows("mail.example.org 127.0.0.5 100", "c.example.org 127.0.0.6 100", "a.example.org 127.0.0.3 0")
	from = w.Log.Len()
	dns.Mode(servers.DNSAnswers)
	logged(from, "SRV name has an answer again")
	logged(from, "name resolves again", `"host":"mail.example.org"`)
	from = w.Log.Len()
	dns.Close()
	logged(from, "SRV name has no answer, its last backends stand")
	shows("mail.example.org 127.0.0.5 100", "c.example.org 127.0.0.6 100", "a.example.org 127.0.0.3 0")
}
