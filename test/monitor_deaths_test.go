package test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"usher/test/servers"
)

// However a backend dies, status says why, its users go elsewhere, and it comes
// back.
func TestMonitor_Deaths(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t, "CA of the tests")
	const user = "quoted@example.org"
	login := as(user, monitored[user])
	// So many that those who fall silent are no panic, even if another is slow.
	others := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.7", "127.0.0.8", "127.0.0.9"}
	dovecot := servers.StartDovecotServices(t, others, monitored, ca.Issue(t, anHour(), others...))
	well := func(host string) string { return fmt.Sprintf("%s:%d", host, dovecot.Port["imap"]["plain"]) }
	var entries []string
	for _, host := range others {
		entries = append(entries, entryAt(t, "imap", well(host), "deep_check: true"))
	}

	killed := servers.StartDovecotBackend(t, "127.0.0.5", monitored, nil)
	stopped := servers.StartDovecotBackend(t, "127.0.0.6", monitored, nil)
	type death struct {
		name, addr  string
		why         string // a pattern
		die, revive func()
	}
	deaths := []death{
		{"killed", killed.Addr["imap"], `^connection refused$`, func() { killed.Kill() }, func() { killed.Start(t) }},
		{"stopped", stopped.Addr["imap"], `^timeout after 3s \(greeting\)$`, func() { stopped.Pause(t) }, func() { stopped.Resume() }},
	}
	for i, d := range []struct {
		name, why string
		mode      servers.GateMode
	}{
		{"silent", `^timeout after 3s \(greeting\)$`, servers.GateSilent},
		{"drips", `^timeout after 3s \(greeting\)$`, servers.GateDrips},
		{"resets", `^connection reset by peer \((connect|greeting)\)$`, servers.GateResets},
		{"closes", `^connection closed by server \(greeting\)$`, servers.GateCloses},
	} {
		gate := servers.StartGate(t, fmt.Sprintf("127.0.0.%d", 20+i), well(others[0]), nil)
		deaths = append(deaths, death{d.name, gate.Addr, d.why, func() { gate.Set(d.mode) }, func() { gate.Set(servers.GateOpen) }})
	}
	for _, d := range deaths {
		entries = append(entries, entryAt(t, "imap", d.addr, login))
	}
	expired := time.Now().Add(-time.Minute)
	for i, d := range []struct {
		name, why string
		cert      func(ip string) *servers.Certificate
	}{
		{
			"expired", `^certificate expired at ` + expired.UTC().Format(time.RFC3339) + `$`,
			func(ip string) *servers.Certificate { return ca.Issue(t, expired, ip) },
		},
		{
			"other name", `^certificate is for 127\.0\.0\.99, not 127\.0\.0\.31$`,
			func(string) *servers.Certificate { return ca.Issue(t, anHour(), "127.0.0.99") },
		},
		{
			"self-signed", `^certificate is not trusted: its issuer "stranger" is unknown$`,
			func(ip string) *servers.Certificate { return servers.NewNamedCertificate(t, "stranger", ip) },
		},
	} {
		ip := fmt.Sprintf("127.0.0.%d", 30+i)
		good := ca.Issue(t, anHour(), ip)
		gate := servers.StartGate(t, ip, well(others[0]), good)
		entries = append(entries, entryAt(t, "imap", gate.Addr, login+", tls: true"))
		deaths = append(deaths, death{d.name, gate.Addr, d.why, func() { gate.Show(d.cert(ip)) }, func() { gate.Show(good) }})
	}

	w := startWatcher(t, ca.Certificate, patient, entries...)
	w.allUp(t)
	for _, b := range w.status(t).Backends {
		if b.Check != "up" || b.Takes != "all" || b.Error != "" {
			t.Fatalf("%s at the start: %s, %q", b.Backend, b.Check, b.Error)
		}
	}

	from := w.Log.Len()
	for _, d := range deaths {
		d.die()
	}
	for _, d := range deaths {
		w.becomes(t, from, d.addr, "down")
	}
	for _, d := range deaths {
		t.Run(d.name, func(t *testing.T) {
			b := w.backend(t, d.addr)
			if b.Check != "down" || !b.Failing || b.Takes != "none" || b.Why != "down by its check" || !regexp.MustCompile(d.why).MatchString(b.Error) {
				t.Errorf("%+v, want it down by %s", b, d.why)
			}
		})
	}
	healthy := map[string]bool{}
	for _, host := range others {
		healthy[well(host)] = true
		if b := w.backend(t, well(host)); b.Check != "up" || b.Takes != "all" {
			t.Errorf("one that is well: %+v", b)
		}
	}
	if s := w.status(t); len(s.Panics) > 0 {
		t.Errorf("panics: %+v", s.Panics)
	}
	for n := range 40 {
		if at := w.login(t, newcomer(n)); !healthy[at] {
			t.Errorf("%s is taken to %s", newcomer(n), at)
		}
	}

	from = w.Log.Len()
	for _, d := range deaths {
		d.revive()
	}
	for _, d := range deaths {
		w.becomes(t, from, d.addr, "up")
		if b := w.backend(t, d.addr); b.Check != "up" || b.Failing || b.Takes != "all" || b.Error != "" {
			t.Errorf("%s, returned: %+v", d.name, b)
		}
	}
	w.tellsNobody(t, monitored)
}
