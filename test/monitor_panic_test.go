package test

import (
	"strings"
	"testing"
	"time"
)

// Four of five fall silent at once, which is most likely this machine's network:
// everybody stays where he is until it is over.
func TestMonitor_Panic(t *testing.T) {
	t.Parallel()
	backends, addrs, entries := fleet(t, 5)
	w := startWatcher(t, nil, patient, entries...)
	w.allUp(t)
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
	// begins pauses all of silent, and returns where the log went on.
	begins := func() (from int) {
		t.Helper()
		from = w.Log.Len()
		for _, addr := range silent {
			backends[addr].Pause(t)
		}
		w.Logged(t, from, "the panic", func(line string) bool {
			return strings.Contains(line, "panic: too many backends fall by timeouts or errors of the local network") &&
				strings.Contains(line, `"level":"error"`) && strings.Contains(line, `"protocol":"imap"`)
		})
		return from
	}
	// ends resumes some, and waits for the panic's end.
	ends := func(from int, addrs ...string) {
		t.Helper()
		for _, addr := range addrs {
			backends[addr].Resume()
		}
		w.Logged(t, from, "the panic's end", func(line string) bool { return strings.Contains(line, "panic is over") })
		if s := w.status(t); len(s.Panics) > 0 {
			t.Errorf("panics, when it is over: %+v", s.Panics)
		}
		// The metric comes a moment after the log.
		if got := gauge(t, w.Usher, metric); got != 0 {
			t.Errorf("usher_backend_panic is %g when it is over", got)
		}
	}

	from := begins()
	s := w.status(t)
	if len(s.Panics) != 1 || s.Panics[0].Protocol != "imap" || s.Panics[0].Failing < 4 || s.Panics[0].Of != 5 {
		t.Errorf("panics: %+v", s.Panics)
	}
	if got := gauge(t, w.Usher, metric); got != 1 {
		t.Errorf("usher_backend_panic is %g", got)
	}
	if human, _, _ := w.Run(t, "status"); !strings.Contains(human, "\nPANIC imap for ") {
		t.Errorf("usher status says nothing of it:\n%s", human)
	}
	stay()
	// A while later too, when all of them have failed more often than fall says.
	<-time.After(2 * time.Second)
	stay()
	for _, addr := range silent {
		if b := w.backend(t, addr); b.Check != "up" || !b.Kept || !b.Failing || b.Takes != "all" || b.Error != "timeout after 3s (greeting)" {
			t.Errorf("kept: %+v", b)
		}
	}
	ends(from, silent...)
	for _, b := range w.status(t).Backends {
		if b.Check != "up" || b.Kept || b.Takes != "all" {
			t.Errorf("when it is over: %+v", b)
		}
	}
	stay()
	for _, line := range w.Log.Lines(from) {
		if strings.Contains(line, `"to":"down"`) {
			t.Errorf("a transition: %s", line)
		}
	}

	// Once more, and two of the four return: those that do not are down then.
	from = begins()
	ends(from, silent[:2]...)
	dead := map[string]bool{}
	for _, addr := range silent[2:] {
		w.becomes(t, from, addr, "down")
		dead[addr] = true
	}
	for user, at := range home {
		if now := w.login(t, user); dead[now] || !dead[at] && now != at {
			t.Errorf("%s was at %s and is taken to %s", user, at, now)
		}
	}
	from = w.Log.Len()
	for addr := range dead {
		backends[addr].Resume()
		w.becomes(t, from, addr, "up")
	}
}
