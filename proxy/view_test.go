package proxy

import (
	"fmt"
	"slices"
	"testing"
)

func addresses(list []*Entry) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Protocol+" "+e.Address())
	}
	return out
}

func TestListed(t *testing.T) {
	v := NewView(inventory())
	up := []string{
		"imap 127.0.0.2:143", "pop3 127.0.0.2:110", "imap 127.0.0.3:143", "pop3 127.0.0.3:110",
		"imap 127.0.0.5:993", "pop3 127.0.0.5:110", "smtp 127.0.0.8:25",
	}
	for _, tc := range []struct {
		name, assigned string
		addressOnly    bool
		want           []string
	}{
		{"a new user sees hosts that are up and not drained", "", false, up},
		{"a user of a host that is up sees the same", "127.0.0.2", false, up},
		{"a user of a host that is down sees the same", "127.0.0.4", false, up},
		{"nginx sees no TLS", "", true, slices.DeleteFunc(slices.Clone(up), func(s string) bool { return s == "imap 127.0.0.5:993" })},
		{"a drained host's user sees it, in its place", "127.0.0.6", false, slices.Concat(up[:6], []string{"imap 127.0.0.6:143", "pop3 127.0.0.6:110"}, up[6:])},
		{"so does the user of one of unknown health", "127.0.0.7", false, slices.Concat(up[:6], []string{"imap 127.0.0.7:143", "pop3 127.0.0.7:110"}, up[6:])},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := addresses(v.Listed(tc.assigned, tc.addressOnly)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	v := NewView(inventory())
	for service, want := range map[string][]string{
		"imap":    {"imap 127.0.0.2:143", "imap 127.0.0.3:143", "imap 127.0.0.5:993"},
		"smtp":    {"smtp 127.0.0.8:25"},
		"doveadm": {"imap 127.0.0.2:143", "imap 127.0.0.3:143", "imap 127.0.0.5:993", "smtp 127.0.0.8:25"},
	} {
		if got := addresses(v.Candidates(service, "", false)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", service, got, want)
		}
	}
}

// One drained host among many costs the users of the others nothing.
func TestCandidates_BesideADrainedHost(t *testing.T) {
	var entries []Entry
	for i := range 2000 {
		host := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		entries = append(entries, entry("imap", host, 143, Up), entry("sieve", host, 4190, Up))
	}
	entries[1000].Admin = AdminDrain // 10.0.1.244's
	v := NewView(entries)
	for _, assigned := range []string{"10.0.0.7", "10.9.9.9"} {
		if n := testing.AllocsPerRun(10, func() { v.Candidates("imap", assigned, false) }); n != 0 {
			t.Errorf("%s: %v allocations", assigned, n)
		}
		if got, want := v.Candidates("imap", assigned, false), v.Candidates("imap", "", false); !slices.Equal(got, want) || len(got) != 1999 {
			t.Errorf("%s: %d, want %d", assigned, len(got), len(want))
		}
	}
	if own := v.Candidates("imap", "10.0.1.244", false); len(own) != 2000 || own[500] != &entries[1000] {
		t.Errorf("%d for the drained host's own", len(own))
	}
}

func TestAiling(t *testing.T) {
	v := NewView([]Entry{
		entry("imap", "127.0.0.2", 143, Up), entry("sieve", "127.0.0.2", 4190, Down),
		entry("imap", "127.0.0.3", 143, Down), entry("sieve", "127.0.0.3", 4190, Down), entry("sieve", "127.0.0.4", 4190, Up),
	})
	for host, want := range map[string]bool{"127.0.0.2": true, "127.0.0.3": false, "127.0.0.4": false, "127.0.0.9": false} {
		if got := v.Ailing(host, "sieve", false) != nil; got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	if v.Ailing("127.0.0.2", "imap", false) != nil {
		t.Error("imap is up")
	}
}

// The same user goes to the same host by both mailbox protocols, though one
// host has only one of them.
func TestRendezvousAgrees(t *testing.T) {
	entries := []Entry{entry("imap", "127.0.0.9", 143, Up)}
	for i := 2; i < 8; i++ {
		host := fmt.Sprintf("127.0.0.%d", i)
		entries = append(entries, entry("imap", host, 143, Up), entry("pop3", host, 110, Up))
	}
	v := NewView(entries)
	for i := range 1000 {
		user := fmt.Sprintf("user%d@example.org", i)
		a := Rendezvous("imap", user, v.Candidates("imap", "", false))
		b := Rendezvous("pop3", user, v.Candidates("pop3", "", false))
		if a == nil || b == nil || a.Host != b.Host {
			t.Fatalf("%s: imap %v, pop3 %v", user, a, b)
		}
	}
	if Rendezvous("imap", "x", nil) != nil {
		t.Error("a server out of none")
	}
}

func BenchmarkRendezvous(b *testing.B) {
	var entries []Entry
	for i := range 100 {
		host := fmt.Sprintf("10.0.0.%d", i+1)
		entries = append(entries, entry("imap", host, 143, Up), entry("pop3", host, 110, Up))
	}
	hosts := NewView(entries).Candidates("imap", "", false)
	b.ReportAllocs()
	for b.Loop() {
		Rendezvous("imap", "alice@example.org", hosts)
	}
}
