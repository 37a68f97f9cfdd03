package monitor

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy"
)

// All that can happen to a Monitor happens at once, reloads too: nobody waits for
// ever, and in the end it shows what is true.
func TestMonitor_Storm(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		const hosts = 12
		a, f := memoryAdmin(t), &fake{}
		check := func(ctx context.Context, s *proxy.Server, addr netip.Addr, trace func(string)) error {
			select {
			case <-time.After(time.Duration(rand.IntN(300)) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			if trace != nil {
				trace("S: hello")
			}
			return f.check(ctx, s, addr, trace)
		}
		var all []*proxy.Server
		for i := range hosts {
			s := server("imap", host(i), 143)
			if i > hosts/2 {
				s.SRV, s.Priority = "_imap._tcp.example.org", i%2
			}
			all = append(all, s, server("pop3", host(i), 110))
		}
		opt := options(all...)
		opt.Admin, opt.Observer, opt.Rise, opt.MaxConcurrent, opt.PanicThreshold = a, &recorder{}, 2, 5, 30
		m := fakeMonitor(t, &fake{}, opt)
		m.check = check
		stop := start(t, m.Run)
		var mu sync.Mutex // of m and stop
		now := func() *Monitor {
			mu.Lock()
			defer mu.Unlock()
			return m
		}
		storm, calm := context.WithTimeout(t.Context(), time.Minute)
		defer calm()
		var wg sync.WaitGroup
		often := func(every time.Duration, do func()) {
			wg.Go(func() {
				for storm.Err() == nil {
					time.Sleep(time.Duration(rand.Int64N(int64(2 * every))))
					do()
				}
			})
		}
		some := func() []*proxy.Server {
			var out []*proxy.Server
			for _, i := range rand.Perm(len(all))[:rand.IntN(len(all))] {
				s := *all[i]
				if s.Weight = 100 + rand.IntN(2); s.Weight == 100 {
					out = append(out, all[i])
				} else {
					out = append(out, &s)
				}
			}
			return out
		}
		often(time.Second, func() { f.set(host(rand.IntN(hosts)), []error{nil, silence, errBroken}[rand.IntN(3)]) })
		often(500*time.Millisecond, func() {
			if err := now().SetServers(some()); err != nil {
				t.Error(err)
			}
		})
		often(700*time.Millisecond, func() {
			word := []string{"up", "down", "drain", "5", "0"}[rand.IntN(5)]
			if err := a.Order(t.Context(), changeOf(t, word+" "+host(rand.IntN(hosts)))); err != nil {
				t.Error(err)
			}
			now().Preview(changeOf(t, "down "+host(rand.IntN(hosts))))
		})
		for range 4 {
			often(300*time.Millisecond, func() {
				m, begin := now(), time.Now()
				reports, err := m.CheckNow(t.Context(), Target{Host: host(rand.IntN(hosts))})
				if d := time.Since(begin); d > 30*time.Second {
					t.Errorf("waited %s", d)
				}
				for _, r := range reports {
					if err == nil && (r.Entry.Server == nil || len(r.Lines) != 1) {
						t.Errorf("%+v", r)
					}
				}
			})
			often(100*time.Millisecond, func() {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				_ = now().CheckConnection(ctx, server("imap", host(rand.IntN(hosts)), 143))
			})
		}
		often(5*time.Second, func() {
			again := opt
			again.Previous, again.Servers = now(), some()
			next := fakeMonitor(t, &fake{}, again)
			next.check = check
			begun := start(t, next.Run)
			mu.Lock()
			end := stop
			m, stop = next, begun
			mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(3)) * time.Second)
			end()
		})
		wg.Wait()

		for i := range hosts {
			f.set(host(i), nil)
			for _, word := range []string{"up", "100"} {
				if err := a.Order(t.Context(), changeOf(t, word+" "+host(i))); err != nil {
					t.Error(err)
				}
			}
		}
		if err := m.SetServers(all); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, e := range m.Status() {
			if e.Address() != all[i].Address() || e.Health != proxy.Up || e.Kept || e.Admin != proxy.AdminUp || e.Weight != 100 {
				t.Errorf("%s %s: %s, kept %t, %s, %d", e.Protocol, e.Address(), e.Health, e.Kept, e.Admin, e.Weight)
			}
		}
		if len(m.Panics()) > 0 {
			t.Errorf("%+v", m.Panics())
		}
		stop()
	})
}
