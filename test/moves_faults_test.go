package test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/control"
	"usher/proxy/moves"
	"usher/test/servers"
)

// usher ends in the middle of a move, once as it should and once killed. Whoever
// waits is told to try later at worst, but for what Dovecot makes of a killed auth
// server; the move is made by the usher that comes after, and nobody gets in on the
// old host in between.
func TestMove_Restart(t *testing.T) {
	t.Parallel()
	const who, kickDelay = "alice@example.org", 3 * time.Second
	r := newMoveRig(t, "  kick_delay: 3s\n", who)
	old, host := r.home(t, who)
	ending := r.sessions(t, who)
	open := r.gate(t, who)
	m := r.begin(t, who, host)
	held := time.Now()
	for _, c := range ending {
		expectEnd(t, c)
	}
	l := r.load(t, who, old)
	told := map[bool]*waiting{} // by whether usher was killed
	for _, killed := range []bool{false, true} {
		w := r.wait(t, who, "move")
		open()
		r.came(t, m.ID, "settling")
		if killed {
			r.usher.Kill()
		} else {
			r.usher.Signal(syscall.SIGTERM)
			if status := r.usher.Wait(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
		}
		<-time.After(200 * time.Millisecond) // systemd's RestartSec
		r.usher.Restart(t)
		told[killed] = w
	}
	w := r.wait(t, who, "move")
	opened := time.Now()
	open()
	w.land(t, host, kickDelay+slack)
	if took := time.Since(opened); took < kickDelay {
		t.Errorf("logins go on %s after the hook, want kick_delay, %s: the move begins anew", took, kickDelay)
	}
	for killed, w := range told {
		for i, got := range w.told() {
			expectLater(t, w.clients[i].Protocol, got, host, killed)
		}
	}
	l.landed(t, host, 8)
	l.stop()
	t.Logf("logins meanwhile: %v", l)
	l.expectNowhere(t, held, old)
	if got := r.backends[old].Who(t); len(got) > 0 {
		t.Errorf("sessions live at %s: %q", old, got)
	}
	r.came(t, m.ID, "done")
	if s := r.status(t, who); s.Assigned != host || s.Move != nil {
		t.Errorf("status %+v, want %s and no move", s, host)
	}
	args, _ := r.hooked(t, who)
	if len(args) != 3 || len(slices.Compact(args)) != 1 {
		t.Errorf("the hook ran with %q, want the same three times", args)
	}
	expectMoves(t, r, map[string]moves.State{m.ID: moves.Done})
}

// expectLater compares what a login was told that waited when usher ended. nginx
// asks again by itself; Dovecot shows logins whose auth server was killed as wrong
// passwords.
func expectLater(t *testing.T, protocol, got, host string, killed bool) {
	t.Helper()
	switch {
	case got == host, temporary[protocol].MatchString(got), internalError[protocol].MatchString(got):
	case killed && wrongPassword[protocol].MatchString(got):
	default:
		t.Errorf("%s: a login that waited at the end of usher (killed: %t) was told %q", protocol, killed, got)
	}
}

// expectMoves compares what would outlive usher now.
func expectMoves(t *testing.T, r *moveRig, want map[string]moves.State) {
	t.Helper()
	r.usher.Stop()
	raw, err := os.ReadFile(r.state("moves.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct{ Moves []moves.Move }
	if err := json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	for _, m := range kept.Moves {
		if want[m.ID] != m.State {
			t.Errorf("moves.json has %s %s, want %q", m.ID, m.State, want[m.ID])
		}
	}
	if len(kept.Moves) != len(want) {
		t.Errorf("moves.json has %d moves, want %d", len(kept.Moves), len(want))
	}
}

// A proxy that does not answer any more: the move fails in time and the user stays.
// By force it goes on.
func TestMove_StoppedProxy(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t) // logins go through nginx meanwhile
	const who, timeout = "alice@example.org", 6 * time.Second
	r := newMoveRig(t, "  kick_delay: 200ms\n  move_timeout: 6s\n", who)
	old, host := r.home(t, who)
	c := loggedIn(t, "imap", r.proxy.Addr["imap"], who)
	servers.WriteFile(t, "", r.dir, "blind")
	r.proxy.Pause(t)
	nginx := r.fronts[1].addr

	var m control.Move
	stdout, stderr, status := r.usher.Run(t, "move", who, host, "--json")
	if err := json.Unmarshal([]byte(stdout), &m); err != nil || status != 1 || m.State != "failed" {
		t.Fatalf("usher move: exit status %d, %v: %s%s", status, err, stdout, stderr)
	}
	if took := m.Changed.Sub(m.Began); took > timeout+slack {
		t.Errorf("failed after %s, want move_timeout, %s", took, timeout)
	}
	if !strings.Contains(m.Error, "http://"+r.proxy.Addr["doveadm_http"]) {
		t.Errorf("%q does not name the server", m.Error)
	}
	if s := r.status(t, who); s.Assigned != old || s.Move != nil {
		t.Errorf("status %+v, want %s and no move", s, old)
	}
	expectBackend(t, servers.Dial(t, "imap", nginx["imap"]), who, old)

	forced := control.Move{}
	r.ask(t, &forced, "move", who, host, "--force")
	if forced.State != "done" || forced.Changed.Sub(forced.Began) > timeout+slack {
		t.Errorf("by force: %+v", forced)
	}
	expectBackend(t, servers.Dial(t, "pop3", nginx["pop3"]), who, host)
	// The old host did answer.
	if got := r.backends[old].Who(t); slices.Contains(got, who) {
		t.Errorf("sessions live at %s: %q", old, got)
	}
	r.proxy.Resume()
	expectEnd(t, c)
	if got, _ := r.home(t, who); got != host {
		t.Errorf("lives at %s, want %s", got, host)
	}
}
