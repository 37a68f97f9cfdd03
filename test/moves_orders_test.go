package test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// What operators order for single users, by the command line, of users who are
// logged in. All of it is in the audit log, and no secret is anywhere.
func TestMove_Orders(t *testing.T) {
	t.Parallel()
	users := []string{"undo@example.org", "back@example.org", "pin@example.org", "hold@example.org", "kick@example.org", "nobody@example.org"}
	r := newMoveRig(t, "  kick_delay: 300ms\n", users...)
	t.Run("each", func(t *testing.T) {
		for i, f := range []func(*testing.T, *moveRig, string){undoBefore, undoAfter, pinAndUnpin, holdAndRelease, kick} {
			name, _, _ := strings.Cut(users[i], "@")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t, r, users[i])
			})
		}
		t.Run("kick nobody", func(t *testing.T) {
			t.Parallel()
			if out := r.run(t, 0, "kick", "nobody@example.org"); out != "nobody@example.org: 0 sessions ended\n" {
				t.Errorf("usher kick: %q", out)
			}
		})
	})
	expectAudit(t, r)
	expectNoSecret(t, r, users)
}

// A move that is undone before the switch lets logins go on where the user was.
func undoBefore(t *testing.T, r *moveRig, who string) {
	old, host := r.home(t, who)
	ending := r.sessions(t, who)
	r.gate(t, who)
	m := r.begin(t, who, host)
	for _, c := range ending {
		expectEnd(t, c)
	}
	r.came(t, m.ID, "hooking")
	w := r.wait(t, who, "move")
	if out := r.run(t, 0, "undo", m.ID, "--reason", "wrong user"); !strings.Contains(out, who+" stays on "+old) {
		t.Errorf("usher undo: %q", out)
	}
	w.land(t, old, slack)
	if out := r.run(t, 1, "undo", m.ID); !strings.Contains(out, "there is nothing to undo") {
		t.Errorf("a second time: %q", out)
	}
	if s := r.status(t, who); s.Assigned != old || s.Move != nil {
		t.Errorf("status %+v, want %s and no move", s, old)
	}
}

// A move that is done is made the other way round.
func undoAfter(t *testing.T, r *moveRig, who string) {
	old, host := r.home(t, who)
	var m, back control.Move
	r.ask(t, &m, "move", who, host, "--reason", "disk full")
	ending := r.sessions(t, who)
	r.ask(t, &back, "undo", m.ID)
	if back.Undoes != m.ID || back.From != host || back.To != old || !back.OK {
		t.Errorf("%+v does not undo %s", back, m.ID)
	}
	for _, c := range ending {
		expectEnd(t, c)
	}
	if got, _ := r.home(t, who); got != old {
		t.Errorf("lives at %s, want %s", got, old)
	}
	if out := r.run(t, 1, "undo", m.ID); !strings.Contains(out, "lives elsewhere by now: on "+old) {
		t.Errorf("a second time: %q", out)
	}
}

// A user who is pinned to another host is moved there, and stays when the pin is
// gone.
func pinAndUnpin(t *testing.T, r *moveRig, who string) {
	old, host := r.home(t, who)
	ending := r.sessions(t, who)
	if out := r.run(t, 0, "pin", strings.ToUpper(who), host); !strings.Contains(out, "done: ") {
		t.Errorf("usher pin: %q", out)
	}
	for _, c := range ending {
		expectEnd(t, c)
	}
	if got := r.backends[old].Who(t); slices.Contains(got, who) {
		t.Errorf("sessions live at %s: %q", old, got)
	}
	if s := r.status(t, who); s.Pinned != host || s.Assigned != host {
		t.Errorf("status %+v, want pinned to %s and assigned there", s, host)
	}
	alive := r.sessions(t, who)
	if s, dump := r.status(t, who), r.run(t, 0, "dump"); !strings.Contains(dump, "usher pin "+who+" "+host) {
		t.Errorf("usher dump: %q, status %+v", dump, s)
	}
	r.run(t, 0, "unpin", who)
	r.run(t, 1, "unpin", who)
	if s := r.status(t, who); s.Pinned != "" || s.Assigned != host {
		t.Errorf("status %+v, want no pin, and assigned to %s", s, host)
	}
	expectAlive(t, alive, host)
	if got, _ := r.home(t, who); got != host {
		t.Errorf("lives at %s, want %s", got, host)
	}
}

// Who is held waits, and goes on as soon as he is released; sessions live on.
func holdAndRelease(t *testing.T, r *moveRig, who string) {
	here, _ := r.home(t, who)
	alive := r.sessions(t, who)
	r.run(t, 0, "hold", who, "--reason", "investigation")
	w := r.wait(t, who, "operator")
	if s := r.status(t, who); s.HeldBy == nil || s.HeldBy.Reason != "investigation" || s.Assigned != here {
		t.Errorf("status %+v, want held, and assigned to %s", s, here)
	}
	r.run(t, 0, "release", who)
	w.land(t, here, 1500*time.Millisecond+slack)
	r.run(t, 1, "release", who)
	expectAlive(t, alive, here)
}

// All sessions of a user end; logins go on where he was.
func kick(t *testing.T, r *moveRig, who string) {
	here, _ := r.home(t, who)
	ending := r.sessions(t, who)
	var dry, done control.KickAnswer
	r.ask(t, &dry, "kick", who, "--dry-run")
	r.ask(t, &done, "kick", who, "--reason", "stolen phone")
	// Those through the Dovecot proxy show there and at the backend.
	if want := len(ending) + 2; len(done.Sessions) != want || len(dry.Sessions) != want {
		t.Errorf("%d sessions ended, %d before, want %d: %+v", len(done.Sessions), len(dry.Sessions), want, done)
	}
	for _, c := range ending {
		expectEnd(t, c)
	}
	if got := r.backends[here].Who(t); slices.Contains(got, who) {
		t.Errorf("sessions live at %s: %q", here, got)
	}
	if got, _ := r.home(t, who); got != here {
		t.Errorf("lives at %s, want %s", got, here)
	}
}

// expectAudit compares the orders of TestMove_Orders with the audit log.
func expectAudit(t *testing.T, r *moveRig) {
	t.Helper()
	raw, err := os.ReadFile(r.state("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(raw)) {
		var a control.AuditRecord
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if a.By == "" || time.Since(a.At) > time.Hour {
			t.Errorf("who, when? %s", line)
		}
		words := strings.Fields(a.Action)
		switch verb := words[1]; {
		case verb == "undo":
			words = words[:2] // the move has another id each time
		case verb == "move", verb == "pin":
			words = words[:3] // the host is what the hash makes it
			if a.Error == "" && a.Result == "" {
				t.Errorf("no move is named: %s", line)
			}
		}
		how := "refused"
		if a.Error == "" {
			how = "taken"
		}
		got = append(got, strings.TrimSpace(strings.Join(append(words, how), " ")+" "+a.Reason))
	}
	slices.Sort(got)
	want := []string{
		"usher hold hold@example.org taken investigation", "usher kick kick@example.org taken stolen phone", "usher kick nobody@example.org taken",
		"usher move back@example.org taken disk full", "usher move undo@example.org taken", "usher pin PIN@EXAMPLE.ORG taken",
		"usher release hold@example.org refused", "usher release hold@example.org taken",
		"usher undo refused", "usher undo refused", "usher undo taken", "usher undo taken wrong user",
		"usher unpin pin@example.org refused", "usher unpin pin@example.org taken",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// state is the path of a file in usher's state_dir.
func (r *moveRig) state(name string) string {
	return filepath.Join(filepath.Dir(r.usher.Config), "state", name)
}

// expectNoSecret looks for passwords in all that usher writes and shows.
func expectNoSecret(t *testing.T, r *moveRig, users []string) {
	t.Helper()
	texts := map[string]string{
		"log": strings.Join(r.usher.Log.Lines(0), "\n"), "status": r.run(t, 0, "status", "--json"),
		"dump": r.run(t, 0, "dump"), "metrics": r.usher.Get(t, "/metrics"),
	}
	for _, u := range users {
		texts["status of "+u] = r.run(t, 0, "status", u, "--json")
		if u != "nobody@example.org" { // who never logged in
			texts["decisions on "+u] = r.run(t, 0, "why", "--user", u, "--json")
		}
	}
	err := filepath.WalkDir(r.state(""), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var raw []byte
			raw, err = os.ReadFile(path)
			texts[path] = string(raw)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file that has replaced another by now
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"audit.log", "moves.json", "users.json"} {
		if texts[r.state(name)] == "" {
			t.Errorf("%s has nothing to look at", name)
		}
	}
	for where, text := range texts {
		for _, secret := range []string{password, servers.DoveadmPassword, servers.DoveadmKey} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in %s", where)
			}
		}
	}
}
