package test

import (
	"cmp"
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
	byAddr = map[string]*servers.Dovecot{}
	for i := range size {
		d := servers.StartDovecotBackend(t, fmt.Sprintf("127.0.0.%d", 2+i), monitored, nil)
		t.Cleanup(func() { d.Kill() }) // or each takes a second to end
		byAddr[d.Addr["imap"]] = d
		addrs = append(addrs, d.Addr["imap"])
		entries = append(entries, entryAt(t, "imap", d.Addr["imap"], "deep_check: true"))
	}
	return byAddr, addrs, entries
}

// How long logins of new users are still taken to a backend that died. With -v it
// says so.
func TestMonitor_TimeToAvoid(t *testing.T) {
	t.Parallel()
	timeToAvoid(t, soon, 20*time.Second)
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
	w.allUp(t)
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
			for {
				// Where the machine is busy there may be nobody who is up for a moment.
				at, status := w.tryLogin(t, users[lost%len(users)])
				if status == "OK" && at != victim {
					break
				}
				if lost++; time.Since(begin) > bound {
					t.Fatalf("after %s, %d logins are still taken to a dead backend", bound, lost)
				}
				<-clock.C
			}
			t.Logf("%s, %s: avoided after %s, and %d logins", cmp.Or(strings.Join(strings.Fields(settings), " "), "default settings"),
				death.name, time.Since(begin).Round(10*time.Millisecond), lost)
			death.revive()
			w.becomes(t, from, victim, "up")
		})
	}
}
