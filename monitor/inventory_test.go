package monitor

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func words(m *Monitor) string {
	var out []string
	for _, e := range m.View().Entries {
		out = append(out, fmt.Sprint(e.Host, " ", e.Health))
	}
	return strings.Join(out, ", ")
}

func TestMonitor_SetServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, rec := &fake{}, &recorder{}
		f.set("192.0.2.2", errBroken)
		a, b, c := server("imap", "192.0.2.1", 143), server("imap", "192.0.2.2", 143), server("imap", "192.0.2.3", 143)
		opt := options(a, b)
		opt.Observer = rec
		m := fakeMonitor(t, f, opt)
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := m.SetServers([]*proxy.Server{c, b}); err != nil {
			t.Fatal(err)
		}
		if got := words(m); got != "192.0.2.3 checking, 192.0.2.2 down" {
			t.Errorf("at once: %s", got)
		}
		gone := len(f.times("192.0.2.1"))
		time.Sleep(time.Minute)
		if got := words(m); got != "192.0.2.3 up, 192.0.2.2 down" {
			t.Errorf("a minute later: %s", got)
		}
		if n := len(f.times("192.0.2.1")); n != gone {
			t.Errorf("the one that is gone was checked %d times more", n-gone)
		}
		// New settings of the same backend: what is known goes on.
		checks := len(f.times("192.0.2.2"))
		heavier := *b
		heavier.Weight = 7
		if err := m.SetServers([]*proxy.Server{c, &heavier, a}); err != nil {
			t.Fatal(err)
		}
		if got := words(m); got != "192.0.2.3 up, 192.0.2.2 down, 192.0.2.1 checking" {
			t.Errorf("with new settings: %s", got)
		}
		time.Sleep(10 * time.Second)
		if n := len(f.times("192.0.2.2")) - checks; n < 9 || n > 12 {
			t.Errorf("%d checks in 10 s, want one a second", n)
		}
		if err := m.SetServers([]*proxy.Server{server("gopher", "192.0.2.9", 70)}); err == nil || len(m.View().Entries) != 3 {
			t.Errorf("%v, %d entries", err, len(m.View().Entries))
		}
		want := []string{
			"192.0.2.1:143 checking up", "192.0.2.2:143 checking down", "192.0.2.3:143 checking up", "192.0.2.1:143 checking up",
		}
		if diff := cmp.Diff(want, sorted(rec.transitions[:2], rec.transitions[2:])); diff != "" {
			t.Error(diff)
		}
	})
}

// sorted puts the first group, whose order is chance, in order.
func sorted(first, rest []string) []string {
	if len(first) == 2 && first[0] > first[1] {
		first[0], first[1] = first[1], first[0]
	}
	return append(first, rest...)
}

// An inventory that is to come by DNS is waited for, as long as for a check.
func TestMonitor_Partial(t *testing.T) {
	for _, comes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			opt := options()
			opt.Partial = true
			m := fakeMonitor(t, &fake{}, opt)
			defer start(t, m.Run)()
			begin := time.Now()
			want := opt.Timeout
			if comes {
				want = time.Second
				go func() {
					time.Sleep(time.Second)
					if err := m.SetServers([]*proxy.Server{server("imap", "192.0.2.1", 143)}); err != nil {
						t.Error(err)
					}
				}()
			}
			if err := m.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin) - want; d < 0 || d > 600*time.Millisecond {
				t.Errorf("comes %t: ready %s late", comes, d)
			}
			if comes && health(m, 0) != proxy.Up {
				t.Errorf("%s", words(m))
			}
		})
	}
}

// A name server that gives other weights each second does not begin the checks
// anew: one that hangs would never be found out.
func TestMonitor_SetServers_Weights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: map[string]bool{"192.0.2.2": true}}
		a, b := server("imap", "192.0.2.1", 143), server("imap", "192.0.2.2", 143)
		opt := options(a, b)
		opt.Admin = memoryAdmin(t)
		m := fakeMonitor(t, f, opt)
		m.opt.Names = literals{}
		defer start(t, m.Run)()
		give(t, opt.Admin, "drain 192.0.2.1\n5 192.0.2.1\n")
		for i := range 60 {
			a, b := *a, *b
			a.Weight, a.Tags, b.Weight = i, []string{fmt.Sprint(i)}, 60-i
			if err := m.SetServers([]*proxy.Server{&b, &a}); err != nil {
				t.Fatal(err)
			}
			if e := m.View().Entries; e[0].Server != &b || e[1].Weight != 5 || e[1].Tag() != fmt.Sprint(i) || e[1].Admin != proxy.AdminDrain {
				t.Fatalf("%+v, %+v", e[0].Server, e[1].Server)
			}
			time.Sleep(time.Second)
		}
		if got := words(m); got != "192.0.2.2 down, 192.0.2.1 up" {
			t.Error(got)
		}
		if n := len(f.times("192.0.2.1")); n > 15 {
			t.Errorf("%d checks in a minute", n)
		}
	})
}
