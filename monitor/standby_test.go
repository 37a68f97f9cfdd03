package monitor

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy"
)

// Two records of priority 10, one of 20, one of 30: the next priority takes new
// users when the ones before are down, and gives them back.
func TestStandBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := &fake{}, memoryAdmin(t)
		opt := options()
		for i, priority := range []int{10, 10, 20, 30} {
			s := server("imap", host(i), 143)
			s.SRV, s.Priority = "_imap._tcp.example.org", priority
			opt.Servers = append(opt.Servers, s)
		}
		pop3 := server("pop3", host(0), 110)
		opt.Servers = append(opt.Servers, pop3)
		opt.Admin = a
		m := fakeMonitor(t, f, opt)
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		show := func() string {
			time.Sleep(20 * time.Second)
			synctest.Wait()
			var words []string
			for i := range m.View().Entries[:4] {
				e := &m.View().Entries[i]
				takes, _ := e.Takes()
				words = append(words, fmt.Sprint(takes, " ", e.Machine().Weight))
			}
			return strings.Join(words, ", ")
		}
		step := func(what, want string) {
			t.Helper()
			if got := show(); got != want {
				t.Errorf("%s: %s\nwant %s", what, got, want)
			}
		}
		step("all are up", "all 100, all 100, own 0, own 0")
		f.set(host(0), errBroken)
		step("one of two is down", "none 100, all 100, own 0, own 0")
		give(t, a, "down "+host(1)+"\n")
		step("the other is ordered down", "none 100, none 100, all 100, own 0")
		f.set(host(2), errBroken)
		step("so is the next", "none 100, none 100, none 100, all 100")
		f.set(host(0), nil)
		step("the first is back", "all 100, none 100, none 0, own 0")
		give(t, a, "100 "+host(3)+"\n")
		step("weight by order", "all 100, none 100, none 0, all 100")
	})
}

// A host whose pop3 entry is down is down as a whole, for the records of imap too.
func TestStandBy_HostIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := options()
		for i, priority := range []int{10, 20} {
			s := server("imap", host(i), 143)
			s.SRV, s.Priority = "_imap._tcp.example.org", priority
			opt.Servers = append(opt.Servers, s)
		}
		opt.Servers = append(opt.Servers, server("pop3", host(0), 110))
		a := memoryAdmin(t)
		opt.Admin = a
		m := fakeMonitor(t, &fake{}, opt)
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		give(t, a, "down "+host(0)+":110\n")
		if e := &m.View().Entries[1]; e.Standby || e.Weight != 100 {
			t.Errorf("stands by: %t, weight %d", e.Standby, e.Weight)
		}
		if e := &m.View().Entries[0]; e.Health != proxy.Up {
			t.Errorf("imap is %s", e.Health)
		}
	})
}

// What an order would do is what it does, to those who stand by too.
func TestPreview(t *testing.T) {
	a := memoryAdmin(t)
	opt := options()
	for i, priority := range []int{10, 20, 30} {
		s := server("imap", host(i), 143)
		s.SRV, s.Priority = "_imap._tcp.example.org", priority
		opt.Servers = append(opt.Servers, s)
	}
	opt.Admin = a
	m := fakeMonitor(t, &fake{}, opt)
	for _, tg := range m.targets {
		now := time.Now()
		tg.state.Store(&state{health: proxy.Up, since: now, checkedAt: now})
	}
	show := func(entries []proxy.Entry) string {
		proxy.NewView(entries)
		var words []string
		for i := range entries {
			takes, _ := entries[i].Takes()
			words = append(words, fmt.Sprint(entries[i].Admin, " ", takes, " ", entries[i].Weight))
		}
		return strings.Join(words, ", ")
	}
	m.rebuild()
	for _, tt := range []struct{ order, want string }{
		{"down " + host(0), "down none 100, up all 100, up own 0"},
		{"7 " + host(2), "down none 100, up all 100, up all 7"},
		{"drain " + host(1), "down none 100, drain own 100, up all 7"},
		{"up " + host(0), "up all 100, drain own 0, up all 7"},
	} {
		before := m.Status()
		would := show(m.Preview(changeOf(t, tt.order)))
		if show(before) != show(m.Status()) {
			t.Fatalf("%s: it was done", tt.order)
		}
		give(t, a, tt.order+"\n")
		m.rebuild()
		if did := show(m.Status()); would != tt.want || did != tt.want {
			t.Errorf("%s: it would %s, it does %s\nwant %s", tt.order, would, did, tt.want)
		}
	}
}
