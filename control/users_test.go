package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUsers(t *testing.T) {
	s := &fakeService{}
	c := serveAPI(t, s)
	ctx := t.Context()
	o := UserOrder{User: "a/b c@example.org", Host: "mail2", By: "root"}
	m, err := c.Move(ctx, o)
	if err != nil || m.ID != "M1" || m.To != "mail2" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, f := range []func() error{
		func() error { _, err := c.Pin(ctx, o); return err },
		func() error { _, err := c.Unpin(ctx, o); return err },
		func() error { _, err := c.Hold(ctx, o); return err },
		func() error { _, err := c.Release(ctx, o); return err },
		func() error { _, err := c.Kick(ctx, o); return err },
		func() error { _, err := c.Undo(ctx, "M1", UserOrder{By: "root"}); return err },
		func() error { _, err := c.StopFlush(ctx, "F1", UserOrder{By: "root"}); return err },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	name := "a/b c@example.org mail2 root"
	want := []string{"move " + name, "pin " + name, "unpin " + name, "hold " + name, "release " + name, "kick " + name, "undo M1   root", "stop F1   root"}
	if diff := cmp.Diff(want, s.users); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Unpin(ctx, UserOrder{User: "nobody"}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("%v", err)
	}
	if f, err := c.Flush(ctx, FlushOrder{Host: "all", Rate: 2.5}); err != nil || f.ID != "F1" || f.Rate != 2.5 {
		t.Errorf("%+v, %v", f, err)
	}
	if list, err := c.Moves(ctx); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if d, err := c.Decisions(ctx, "D1", ""); err != nil || len(d) != 1 || d[0].ID != "D1" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := c.Decisions(ctx, "unknown", ""); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("%v", err)
	}
	if a, err := c.Audit(ctx, 7); err != nil || len(a) != 7 {
		t.Errorf("%v, %v", a, err)
	}
}

func TestMap(t *testing.T) {
	c := serveAPI(t, &fakeService{})
	count := func(host string, most int) (n int, err error) {
		err = c.Map(t.Context(), host, "ssd", func(a Assignment) bool {
			if a.Host != host || a.Tag != "ssd" {
				t.Errorf("%+v", a)
			}
			n++
			return n < most
		})
		return n, err
	}
	if n, err := count("mail1", 10_000); n != 2500 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := count("mail1", 10); n != 10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := count("breaks", 10_000); n != 2500 || err == nil || err.Error() != "the store went away" {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "audit.log")
	a := NewAudit(path)
	if got, err := a.Last(5); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	at := time.Unix(1e9, 0).UTC()
	for i := range 25 {
		if err := a.Add(AuditRecord{At: at, By: "root", Action: strings.Repeat("x", i)}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{half a line\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := a.Last(2)
	if err != nil {
		t.Fatal(err)
	}
	want := []AuditRecord{{At: at, By: "root", Action: strings.Repeat("x", 23)}, {At: at, By: "root", Action: strings.Repeat("x", 24)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
