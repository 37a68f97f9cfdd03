package test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// All users of a host that is drained are moved off it with their live sessions, at
// the rate that was ordered; those who are pinned there stay, and so do their
// sessions.
func TestFlush_LiveSessions(t *testing.T) {
	t.Parallel()
	const perSec = 20
	users, pinned := named("user", 30), named("pinned", 2)
	r := newMoveRig(t, "  kick_delay: 200ms\n", append(users, pinned...)...)
	old, host := hosts[0], hosts[1]
	r.run(t, 0, "backend", "drain", host) // so that all begin on the other
	logIn := func(f *front, user string) *servers.Client {
		c := servers.Dial(t, "imap", f.addr["imap"])
		expectBackend(t, c, user, old)
		return c
	}
	var ending, alive []*servers.Client
	for i, u := range users {
		ending = append(ending, logIn(r.fronts[i%len(r.fronts)], u))
	}
	for i, u := range pinned {
		alive = append(alive, logIn(r.fronts[i%len(r.fronts)], u))
		r.run(t, 0, "pin", u, old)
	}
	r.run(t, 0, "backend", "up", host)
	r.run(t, 0, "backend", "drain", old, "--reason", "disk swap")

	var f control.Flush
	r.ask(t, &f, "flush", old, "--rate", "20/s", "--dry-run")
	if f.Total != 32 || f.Moved != 30 || f.Stays != 2 || !f.DryRun {
		t.Errorf("dry run: %+v", f)
	}
	open := r.gate(t, users[29]) // so that the flush lasts
	began := time.Now()
	r.ask(t, &f, "flush", old, "--rate", "20/s", "--detach")
	api := control.NewClient(strings.TrimPrefix(r.usher.Control, "unix:"))
	r.usher.Logged(t, 0, "that the first are moved", func(line string) bool {
		var l struct{ Msg, State, User string }
		return json.Unmarshal([]byte(line), &l) == nil && l.Msg == "move" && l.State == "done"
	})
	half, err := api.FlushOf(context.Background(), f.ID)
	if err != nil || half.Done || half.State != "kicking" || half.Moved == 0 || half.Moved > 29 || half.Failed > 0 {
		t.Errorf("when the first are moved: %+v, %v", half, err)
	}
	open()
	for _, c := range ending {
		expectEnd(t, c)
	}
	r.usher.Logged(t, 0, "the end of the flush", func(line string) bool {
		var l struct{ Msg, ID, State string }
		return json.Unmarshal([]byte(line), &l) == nil && l.Msg == "flush" && l.ID == f.ID && l.State == "done"
	})
	if took, least := time.Since(began), time.Second*(30-1)/perSec; took < least || took > least+4*slack {
		t.Errorf("took %s, want %s and a bit", took, least)
	}
	if f, err = api.FlushOf(context.Background(), f.ID); err != nil || !f.Done || f.Moved != 30 || f.Stays != 2 || f.Failed != 0 {
		t.Errorf("at the end: %+v, %v", f, err)
	}
	if got := r.backends[old].Who(t); !slices.Equal(got, pinned) {
		t.Errorf("sessions at %s: %q, want %q", old, got, pinned)
	}
	var stay []string
	for line := range strings.Lines(r.run(t, 0, "map", "--backend", old, "--json")) {
		var a control.Assignment
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		stay = append(stay, a.Key)
	}
	slices.Sort(stay)
	if !slices.Equal(stay, pinned) {
		t.Errorf("assigned to %s: %q, want %q", old, stay, pinned)
	}
	for _, c := range alive {
		if got := c.Backend(); got != old {
			t.Errorf("a pinned user's session is at %s", got)
		}
	}
	for i, u := range []string{users[0], users[29]} {
		expectBackend(t, servers.Dial(t, "pop3", r.fronts[i%len(r.fronts)].addr["pop3"]), u, host)
	}
	for _, u := range pinned {
		expectBackend(t, servers.Dial(t, "pop3", r.fronts[0].addr["pop3"]), u, old)
	}
}
