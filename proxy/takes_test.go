package proxy

import (
	"fmt"
	"slices"
	"testing"
)

func TestTakes(t *testing.T) {
	tests := []struct {
		name   string
		change func(imap, pop3, smtp *Entry)
		want   [3]string // of imap, pop3, smtp
	}{
		{"all well", func(_, _, _ *Entry) {}, [3]string{"all", "all", "all"}},
		{"imap is down", func(i, _, _ *Entry) { i.Health = Down },
			[3]string{"none down by its check", "none the host is down: imap at port 143", "none the host is down: imap at port 143"}},
		{"pop3 is ordered down", func(_, p, _ *Entry) { p.Admin = AdminDown },
			[3]string{"none the host is down: pop3 at port 110", "none ordered down", "none the host is down: pop3 at port 110"}},
		{"smtp is down", func(_, _, s *Entry) { s.Health = Down }, [3]string{"all", "all", "none down by its check"}},
		{"smtp is drained", func(_, _, s *Entry) { s.Admin = AdminDrain }, [3]string{"all", "all", "own drained"}},
		{"the host is drained", func(i, p, s *Entry) { i.Admin, p.Admin, s.Admin = AdminDrain, AdminDrain, AdminDrain },
			[3]string{"own drained", "own drained", "own drained"}},
		{"pop3 is drained", func(_, p, _ *Entry) { p.Admin = AdminDrain },
			[3]string{"own the host takes no new users: pop3 at port 110", "own drained", "own the host takes no new users: pop3 at port 110"}},
		{"imap is stale", func(i, _, _ *Entry) { i.Health = Stale },
			[3]string{"own its health is not known", "own the host takes no new users: imap at port 143", "own the host takes no new users: imap at port 143"}},
		{"weight 0", func(i, p, s *Entry) {
			for _, e := range []*Entry{i, p, s} {
				c := *e.Server
				c.Weight = 0
				e.Server = &c
			}
		}, [3]string{"own weight 0", "own weight 0", "own weight 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries := []Entry{
				{Server: &Server{Protocol: "imap", Host: "mail1", Port: 143, Weight: 100}, Health: Up},
				{Server: &Server{Protocol: "pop3", Host: "mail1", Port: 110, Weight: 100}, Health: Up},
				{Server: &Server{Protocol: "smtp", Host: "mail1", Port: 25, Weight: 100}, Health: Up},
			}
			tt.change(&entries[0], &entries[1], &entries[2])
			v := NewView(entries)
			for i := range v.Entries {
				e := &v.Entries[i]
				takes, why := e.Takes()
				got := fmt.Sprint(string(takes), " ", why)
				if why == "" {
					got = string(takes)
				}
				if got != tt.want[i] {
					t.Errorf("%s: %s, want %s", e.Protocol, got, tt.want[i])
				}
				// What is said is what View.Listed does, but for weights.
				if listed := slices.Contains(v.Listed("", false), e); listed != (takes == TakesAll) && why != "weight 0" {
					t.Errorf("%s takes %s, and is listed to all: %t", e.Protocol, takes, listed)
				}
				if own := slices.Contains(v.Listed("mail1", false), e); own != (takes != TakesNone) {
					t.Errorf("%s takes %s, and is listed to its own: %t", e.Protocol, takes, own)
				}
			}
		})
	}
}
