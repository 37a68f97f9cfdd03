package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// fleet runs a Dovecot each on a few hosts and returns them by address, and the
// entries for all.
func fleet(t *testing.T, size int) (byAddr map[string]*servers.Dovecot, addrs, entries []string) {
	t.Helper()
	const user = "quoted@example.org"
	byAddr = map[string]*servers.Dovecot{}
	for i := range size {
		d := servers.StartDovecotBackend(t, fmt.Sprintf("127.0.0.%d", 2+i), monitored, nil)
		t.Cleanup(func() { d.Kill() }) // or each takes a second to end
		byAddr[d.Addr["imap"]] = d
		addrs = append(addrs, d.Addr["imap"])
		entries = append(entries, entryAt(t, "imap", d.Addr["imap"], as(user, monitored[user])))
	}
	return byAddr, addrs, entries
}

// How long logins of new users are still taken to a backend that died. With -v it
// says so.
func TestMonitor_TimeToAvoid(t *testing.T) {
	t.Parallel()
	timeToAvoid(t, soon, 40*time.Second)
}

// The same with the settings that usher has by default. It takes a minute.
func TestMonitor_TimeToAvoid_Default(t *testing.T) {
	t.Parallel()
	if os.Getenv("USHER_TIME_TO_AVOID") == "" {
		t.Skip("USHER_TIME_TO_AVOID is not set")
	}
	timeToAvoid(t, "", time.Minute)
}

func timeToAvoid(t *testing.T, settings string, bound time.Duration) {
	t.Helper()
	backends, addrs, entries := fleet(t, 3)
	w := startWatcher(t, nil, settings, entries...)
	victim := addrs[1]
	dovecot := backends[victim]
	for _, death := range []struct {
		name        string
		die, revive func()
	}{
		{"killed", func() { dovecot.Kill() }, func() { dovecot.Start(t) }},
		{"stopped", func() { dovecot.Pause(t) }, func() { dovecot.Resume() }},
	} {
		t.Run(death.name, func(t *testing.T) {
			const each = 20 * time.Millisecond
			users := w.newUsers(t, victim, int(bound/each/10))
			from := w.Log.Len()
			clock := time.NewTicker(each)
			defer clock.Stop()
			death.die()
			begin := time.Now()
			lost := 0
			for w.login(t, users[lost%len(users)]) == victim {
				lost++
				if time.Since(begin) > bound {
					t.Fatalf("after %s, %d logins are still taken to a dead backend", bound, lost)
				}
				<-clock.C
			}
			t.Logf("%s, %s: avoided after %s, and %d logins", or(strings.Join(strings.Fields(settings), " "), "default settings"),
				death.name, time.Since(begin).Round(10*time.Millisecond), lost)
			death.revive()
			w.becomes(t, from, victim, "up")
		})
	}
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// Four of five fall silent at once, which is most likely this machine's network:
// everybody stays where he is until it is over.
func TestMonitor_Panic(t *testing.T) {
	t.Parallel()
	backends, addrs, entries := fleet(t, 5)
	w := startWatcher(t, nil, soon, entries...)
	const metric = `usher_backend_panic\{protocol="imap"\}`
	home := map[string]string{}
	for n := range 50 {
		home[newcomer(n)] = w.login(t, newcomer(n))
	}
	stay := func() {
		t.Helper()
		for user, at := range home {
			if now := w.login(t, user); now != at {
				t.Errorf("%s was at %s and is taken to %s", user, at, now)
			}
		}
	}

	silent := addrs[1:]
	from := w.Log.Len()
	for _, addr := range silent {
		backends[addr].Pause(t)
	}
	w.Logged(t, from, "the panic", func(line string) bool {
		return strings.Contains(line, "panic: too many backends fall by timeouts or errors of the local network") &&
			strings.Contains(line, `"level":"error"`) && strings.Contains(line, `"protocol":"imap"`)
	})
	if got := gauge(t, w.Usher, metric); got != 1 {
		t.Errorf("usher_backend_panic is %g", got)
	}
	s := w.status(t)
	if len(s.Panics) != 1 || s.Panics[0].Protocol != "imap" || s.Panics[0].Failing < 4 || s.Panics[0].Of != 5 {
		t.Errorf("panics: %+v", s.Panics)
	}
	human, _, _ := w.Run(t, "status")
	if !strings.Contains(strings.ToLower(human), "panic") {
		t.Errorf("usher status says nothing of it:\n%s", human)
	}
	stay()
	// A while later too, when all of them have failed more often than fall says.
	<-time.After(8 * time.Second)
	stay()
	for _, addr := range silent {
		if b := w.backend(t, addr); b.Check != "up" || !b.Kept || !b.Failing || b.Takes != "all" || b.Error != "timeout after 3s (greeting)" {
			t.Errorf("kept: %+v", b)
		}
	}
	if b := w.backend(t, addrs[0]); b.Check != "up" || b.Kept || b.Failing {
		t.Errorf("one that is well: %+v", b)
	}
	for _, line := range w.Log.Lines(from) {
		if strings.Contains(line, `"to":"down"`) {
			t.Errorf("a transition: %s", line)
		}
	}

	for _, addr := range silent {
		backends[addr].Resume()
	}
	w.Logged(t, from, "the panic's end", func(line string) bool { return strings.Contains(line, "panic is over") })
	if got := gauge(t, w.Usher, metric); got != 0 {
		t.Errorf("usher_backend_panic is %g when it is over", got)
	}
	for _, b := range w.status(t).Backends {
		if b.Check != "up" || b.Kept || b.Failing || b.Takes != "all" {
			t.Errorf("when it is over: %+v", b)
		}
	}
	stay()
}
