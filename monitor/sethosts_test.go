package monitor

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestResolver_SetHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.ttl = time.Minute
		for i, h := range []string{"kept", "dropped", "found", "added"} {
			z.set(h, fmt.Sprintf("192.0.2.%d", i))
		}
		r := newResolver(t, z, []string{"kept", "dropped"})
		defer start(t, r.Run)()
		ask(t, r, "found")
		synctest.Wait()

		r.SetHosts([]string{"KEPT", "found", "added", "192.0.2.1", "not a name"})
		synctest.Wait() // the new one is asked for at once
		for host, want := range map[string]string{"kept": "192.0.2.0", "KEPT": "192.0.2.0", "dropped": "192.0.2.1", "found": "192.0.2.2", "added": "192.0.2.3"} {
			if got := ask(t, r, host); got != want {
				t.Errorf("%s: %s, want %s", host, got, want)
			}
			if n := z.count(host); host != "KEPT" && n != 1 {
				t.Errorf("%s: asked %d times", host, n)
			}
		}

		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for host, configured := range map[string]bool{"kept": true, "dropped": false, "found": true, "added": true} {
			if n := z.count(host); (n > 8) != configured || n > 12 {
				t.Errorf("%s: asked %d times in ten minutes", host, n)
			}
		}
		r.SetHosts(nil)
		time.Sleep(10 * time.Minute)
		if n := z.count("kept"); n > 12 {
			t.Errorf("asked %d times for a name that is not configured any more", n)
		}
		if got := ask(t, r, "kept"); got != "192.0.2.0" {
			t.Error(got)
		}
	})
}

// A name that goes or comes while it is being asked for.
func TestResolver_SetHostsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.delay, z.ttl = time.Second, 10*time.Second
		z.set("goes", "192.0.2.1")
		z.set("comes", "192.0.2.2")
		r := newResolver(t, z, []string{"goes"})
		defer start(t, r.Run)()
		var wg sync.WaitGroup
		for _, h := range []string{"goes", "comes"} {
			wg.Go(func() { ask(t, r, h) })
		}
		synctest.Wait()
		r.SetHosts([]string{"comes"})
		wg.Wait()
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if goes, comes := z.count("goes"), z.count("comes"); goes != 1 || comes < 3 || comes > 5 {
			t.Errorf("asked %d times for the one that went, %d for the one that came", goes, comes)
		}
	})
}

// Readers and writers at once, for the race detector.
func TestResolver_SetHostsConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.ttl = time.Second
		z.set("a", "192.0.2.1")
		r := newResolver(t, z, []string{"a"}, func(o *ResolverOptions) { o.MaxNames = 3 })
		defer start(t, r.Run)()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 200 {
					if i == 0 {
						r.SetHosts([]string{"a", fmt.Sprintf("b%d", j%7)})
					}
					if got := ask(t, r, "a"); got != "192.0.2.1" {
						t.Error(got)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := len(r.found); n > 3 {
			t.Errorf("%d names in memory", n)
		}
	})
}

// 2,000 names with a TTL of a second are asked for on time.
func TestResolver_ManyShortTTLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.ttl = time.Second
		var hosts []string
		for i := range 2000 {
			h := fmt.Sprintf("h%d.example.org", i)
			hosts = append(hosts, h)
			z.set(h, "192.0.2.1")
		}
		r := newResolver(t, z, hosts)
		defer start(t, r.Run)()
		time.Sleep(11200 * time.Millisecond)
		synctest.Wait()
		for _, h := range hosts {
			if n := z.count(h); n < 10 || n > 12 {
				t.Errorf("%s: asked %d times in 11 s", h, n)
			}
		}
	})
}

// What a look at who is due costs; there are at most 50 a second.
func BenchmarkAskDue(b *testing.B) {
	var hosts []string
	for i := range 2000 {
		hosts = append(hosts, fmt.Sprintf("h%d.example.org", i))
	}
	r, err := NewResolver(hosts, ResolverOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range r.configured.Load().list {
		n.answer.Store(&answer{next: time.Now().Add(time.Hour)})
	}
	for b.Loop() {
		r.askDue(time.Now())
	}
}
