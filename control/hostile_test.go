package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every name gets to the service as it is, or is refused in words.
func TestClient_Names(t *testing.T) {
	s := &fakeService{}
	c := serveAPI(t, s)
	for _, name := range []string{".", "..", "...", "../..", "a/../b", "%2f", "%2e%2e", "a b", `"'\`, "a?b#c", ";", "\xff", strings.Repeat("x", 255)} {
		s.users = nil
		if _, err := c.Hold(t.Context(), UserOrder{User: name}); err != nil || len(s.users) != 1 || s.users[0] != "hold "+name+"  " && !strings.HasPrefix(s.users[0], "hold "+name+" ") {
			t.Errorf("%q: %q, %v", name, s.users, err)
		}
		if _, err := c.Undo(t.Context(), name, UserOrder{}); err != nil || len(s.users) != 2 || !strings.HasPrefix(s.users[1], "undo "+name+" ") {
			t.Errorf("%q: %q, %v", name, s.users, err)
		}
	}
	s.users = nil
	for _, f := range []func() error{
		func() error { _, err := c.User(t.Context(), ""); return err },
		func() error { _, err := c.Kick(t.Context(), UserOrder{}); return err },
		func() error { _, err := c.Undo(t.Context(), "", UserOrder{}); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "empty") || len(s.users) > 0 {
			t.Errorf("%v, %q", err, s.users)
		}
	}
}

// A record that is too long, and one whose writing broke off, hide no other.
func TestAudit_Damaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := NewAudit(path)
	if err := a.Add(AuditRecord{Action: strings.Repeat("x", 100<<10)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Add(AuditRecord{Action: "one"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"action":"the disk was fu`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Add(AuditRecord{Action: "two"}); err != nil {
		t.Fatal(err)
	}
	got, err := a.Last(10)
	if err != nil || len(got) != 2 || got[0].Action != "one" || got[1].Action != "two" {
		t.Errorf("%.200v, %v", got, err)
	}
}
