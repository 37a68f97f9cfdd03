package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// zone is a DNS of the test's own.
type zone struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	ttl   time.Duration
	err   error
	delay time.Duration
	asked map[string]int
}

var errServfail = errors.New("server misbehaving")

func newZone() *zone { return &zone{addrs: map[string][]netip.Addr{}, asked: map[string]int{}} }

func (z *zone) set(host string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs[host] = nil
	for _, a := range addrs {
		z.addrs[host] = append(z.addrs[host], netip.MustParseAddr(a))
	}
}

func (z *zone) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

func (z *zone) count(host string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[host]
}

func (z *zone) lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	z.asked[host]++
	addrs, ttl, err, delay := z.addrs[host], z.ttl, z.err, z.delay
	z.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	return addrs, ttl, err
}

func newResolver(t *testing.T, z *zone, hosts []string, change ...func(*ResolverOptions)) *Resolver {
	t.Helper()
	opt := ResolverOptions{Lookup: z.lookup}
	for _, c := range change {
		c(&opt)
	}
	r, err := NewResolver(hosts, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask looks host up and returns the address or the error as text.
func ask(t *testing.T, r *Resolver, host string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a, err := r.Lookup(ctx, host)
	if err != nil {
		return err.Error()
	}
	return a.String()
}

func TestNewResolver_Faults(t *testing.T) {
	_, err := NewResolver([]string{"a b", "192.0.2.1", "", "fe80::1%eth0"}, ResolverOptions{Refresh: -1})
	want := `monitor: resolver: a bound is less than zero
monitor: resolver: "a b" is no host name and no address
monitor: resolver: "" is no host name and no address
monitor: resolver: "fe80::1%eth0" is no host name and no address`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

func TestChoose(t *testing.T) {
	tests := []struct {
		name    string
		addrs   []string
		present string
		want    string
	}{
		{"empty", nil, "192.0.2.1", ""},
		{"one", []string{"192.0.2.1"}, "", "192.0.2.1"},
		{"lowest", []string{"192.0.2.3", "192.0.2.1", "192.0.2.2"}, "", "192.0.2.1"},
		{"the present one stays", []string{"192.0.2.1", "192.0.2.3"}, "192.0.2.3", "192.0.2.3"},
		{"the present one is gone", []string{"192.0.2.2", "192.0.2.1"}, "192.0.2.3", "192.0.2.1"},
		{"family that stands first: 6", []string{"2001:db8::2", "2001:db8::1", "192.0.2.1"}, "", "2001:db8::1"},
		{"family that stands first: 4", []string{"192.0.2.9", "2001:db8::1"}, "", "192.0.2.9"},
		{"mapped", []string{"::ffff:192.0.2.9"}, "", "192.0.2.9"},
		{"mapped is the present one", []string{"192.0.2.1", "::ffff:192.0.2.9"}, "192.0.2.9", "192.0.2.9"},
		{"no backend lives there", []string{"0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "ff02::1"}, "", ""},
		{"nor there", []string{"0.0.0.0", "192.0.2.1"}, "", "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []netip.Addr
			for _, a := range tt.addrs {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
			var present, want netip.Addr
			if tt.present != "" {
				present = netip.MustParseAddr(tt.present)
			}
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got := choose(addrs, present); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestResolver_Literals(t *testing.T) {
	z := newZone()
	r := newResolver(t, z, []string{"192.0.2.1"})
	for host, want := range map[string]string{
		"192.0.2.1":        "192.0.2.1",
		"2001:DB8::1":      "2001:db8::1",
		"::ffff:192.0.2.1": "192.0.2.1",
		"fe80::1%eth0":     `monitor: resolve "fe80::1%eth0": no address that a backend can have`,
		"0.0.0.0":          `monitor: resolve "0.0.0.0": no address that a backend can have`,
		"a b":              `monitor: resolve "a b": not a host name`,
		"":                 `monitor: resolve "": not a host name`,
		"1.2.3":            `monitor: resolve "1.2.3": not a host name`,
	} {
		if got := ask(t, r, host); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
	}
	if len(z.asked) > 0 {
		t.Errorf("asked DNS for %v", z.asked)
	}
}

func TestResolver_Configured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.set("a.example.org.", "192.0.2.2", "192.0.2.1")
		core, logs := observer.New(zapcore.InfoLevel)
		r := newResolver(t, z, []string{"A.example.org.", "a.example.org.", "192.0.2.9"},
			func(o *ResolverOptions) { o.Logger = zap.New(core) })
		stop := start(t, r.Run)
		steps := []struct {
			name string
			do   func()
			want string
		}{
			{"at the start", func() {}, "192.0.2.1"},
			{"turned, and one more", func() { z.set("a.example.org.", "192.0.2.2", "192.0.2.0", "192.0.2.1") }, "192.0.2.1"},
			{"gone from the answer", func() { z.set("a.example.org.", "192.0.2.2") }, "192.0.2.2"},
			{"an empty answer", func() { z.set("a.example.org.") }, "192.0.2.2"},
			{"DNS fails", func() { z.fail(errServfail) }, "192.0.2.2"},
			{"and stays so", func() {}, "192.0.2.2"},
			{"and is back", func() { z.fail(nil); z.set("a.example.org.", "2001:db8::1") }, "2001:db8::1"},
		}
		for _, s := range steps {
			s.do()
			time.Sleep(35 * time.Second)
			synctest.Wait()
			for _, host := range []string{"A.example.org.", "a.example.org.", "a.EXAMPLE.org."} {
				if got := ask(t, r, host); got != s.want {
					t.Errorf("%s: %s is %s, want %s", s.name, host, got, s.want)
				}
			}
		}
		stop()
		if n := z.count("a.example.org."); n < 20 || n > 32 { // every 30 s, and every 5 s while DNS fails
			t.Errorf("asked %d times in 245 s", n)
		}
		if len(z.asked) != 1 {
			t.Errorf("asked for %v, the dot makes a name absolute", z.asked)
		}
		var lines []string
		for _, l := range logs.All() {
			lines = append(lines, l.Message)
		}
		want := []string{"name has another address", "name does not resolve, its last address stands", "name resolves again"}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		if got := ask(t, r, "a.example.org."); got != "2001:db8::1" {
			t.Errorf("after Run: %s", got)
		}
		if got := ask(t, r, "b.example.org"); got != `monitor: resolve "b.example.org": the resolver is stopped` {
			t.Errorf("after Run: %s", got)
		}
		if err := r.Run(t.Context()); err == nil {
			t.Error("a second Run must be refused")
		}
	})
}

// The first question of a configured name is under way: Lookup waits for it.
func TestResolver_WaitsForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.delay = time.Second
		z.set("a.example.org", "192.0.2.1")
		r := newResolver(t, z, []string{"a.example.org"})
		defer start(t, r.Run)()
		synctest.Wait()
		if got := ask(t, r, "a.example.org"); got != "192.0.2.1" {
			t.Error(got)
		}
		if n := z.count("a.example.org"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestResolver_OnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.delay = 100 * time.Millisecond
		z.set("b.example.org", "192.0.2.1")
		r := newResolver(t, z, nil)
		defer start(t, r.Run)()

		// Many at the same moment share one question.
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := ask(t, r, "B.example.org"); got != "192.0.2.1" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if n := z.count("b.example.org"); n != 1 {
			t.Errorf("asked %d times", n)
		}

		// Old: answered at once from memory, and asked for behind.
		z.set("b.example.org", "192.0.2.2")
		time.Sleep(40 * time.Second)
		begin := time.Now()
		if got := ask(t, r, "b.example.org"); got != "192.0.2.1" || time.Since(begin) > 0 {
			t.Errorf("%s after %s", got, time.Since(begin))
		}
		time.Sleep(time.Second)
		if got := ask(t, r, "b.example.org"); got != "192.0.2.2" {
			t.Errorf("not refreshed: %s", got)
		}

		// Nobody asked for long: what is in memory is not given out unasked,
		z.set("b.example.org", "192.0.2.3")
		time.Sleep(10 * time.Minute)
		if got := ask(t, r, "b.example.org"); got != "192.0.2.3" {
			t.Errorf("%s, want the fresh one", got)
		}
		// but it is, if DNS fails.
		z.fail(errServfail)
		time.Sleep(10 * time.Minute)
		if got := ask(t, r, "b.example.org"); got != "192.0.2.3" {
			t.Errorf("%s, want the last good one", got)
		}
	})
}

func TestResolver_Negative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.fail(errServfail)
		r := newResolver(t, z, []string{"a.example.org"})
		defer start(t, r.Run)()
		for _, host := range []string{"a.example.org", "b.example.org"} {
			want := fmt.Sprintf("monitor: resolve %q: server misbehaving", host)
			for range 10 {
				if got := ask(t, r, host); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			if n := z.count(host); n != 1 {
				t.Errorf("asked for %s %d times within a second", host, n)
			}
		}
		z.fail(nil)
		z.set("b.example.org", "192.0.2.1")
		time.Sleep(time.Second)
		if got := ask(t, r, "b.example.org"); got != "192.0.2.1" {
			t.Errorf("a second later: %s", got)
		}
	})
}

func TestResolver_Deadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		z.delay = time.Hour
		r := newResolver(t, z, nil)
		defer start(t, r.Run)()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := r.Lookup(ctx, "b.example.org"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		// The question goes on for those who have more time, up to its own end.
		if got := ask(t, r, "b.example.org"); got != `monitor: resolve "b.example.org": context deadline exceeded` || time.Since(begin) != 5*time.Second {
			t.Errorf("%s after %s", got, time.Since(begin))
		}
		if n := z.count("b.example.org"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Without Run nothing is asked, and nobody waits longer than his context.
func TestResolver_NotRunning(t *testing.T) {
	r := newResolver(t, newZone(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Lookup(ctx, "b.example.org"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestResolver_MemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		r := newResolver(t, z, nil, func(o *ResolverOptions) { o.MaxNames = 100 })
		defer start(t, r.Run)()
		for i := range 1000 {
			host := fmt.Sprintf("h%d.example.org", i)
			z.set(host, "192.0.2.1")
			if got := ask(t, r, host); got != "192.0.2.1" {
				t.Fatal(got)
			}
		}
		if n := len(r.found); n > 100 {
			t.Errorf("%d names in memory", n)
		}
		// All of them are being asked for: no place for another.
		z.mu.Lock()
		z.delay = time.Minute
		z.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { _, _ = r.Lookup(ctx, fmt.Sprintf("g%d.example.org", i)) })
		}
		synctest.Wait()
		if _, err := r.Lookup(ctx, "one.more.example.org"); !errors.Is(err, errTooMany) {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestResolver_Previous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone()
		for i, h := range []string{"kept", "dropped", "found", "promoted"} {
			z.set(h, fmt.Sprintf("192.0.2.%d", i))
		}
		old := newResolver(t, z, []string{"kept", "dropped"})
		stop := start(t, old.Run)
		ask(t, old, "found")
		ask(t, old, "promoted")
		synctest.Wait()
		stop()
		z.fail(errServfail)
		r := newResolver(t, z, []string{"kept", "promoted", "new"}, func(o *ResolverOptions) { o.Previous = old })
		defer start(t, r.Run)()
		for host, want := range map[string]string{
			"kept": "192.0.2.0", "dropped": "192.0.2.1", "found": "192.0.2.2", "promoted": "192.0.2.3",
			"new": `monitor: resolve "new": server misbehaving`,
		} {
			if got := ask(t, r, host); got != want {
				t.Errorf("%s: %s, want %s", host, got, want)
			}
		}
	})
}

// The system's resolver. A bare machine may lack the line of /etc/hosts.
func TestResolver_System(t *testing.T) {
	r, err := NewResolver([]string{"localhost"}, ResolverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, r.Run)()
	_, unknown := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	for _, host := range []string{"localhost", "LOCALHOST"} {
		a, err := r.Lookup(t.Context(), host)
		if (err == nil) != (unknown == nil) || err == nil && !a.IsLoopback() {
			t.Errorf("%s: %s, %v; the system says: %v", host, a, err, unknown)
		}
	}
}

// Whatever a policy names, DNS is asked for valid names only.
func FuzzResolver_Lookup(f *testing.F) {
	for _, s := range []string{"a.example.org", "a..b", "192.0.2.1", "::1%lo", "A.", "1.2.3.4.5", "\x00", "-a", "xn--bcher-kva.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		r, err := NewResolver(nil, ResolverOptions{Lookup: func(_ context.Context, h string) ([]netip.Addr, time.Duration, error) {
			for i := range len(h) {
				if c := h[i]; c <= ' ' || c >= 0x7f || ('A' <= c && c <= 'Z') {
					t.Errorf("asked for %q", h)
				}
			}
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, 0, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer start(t, r.Run)()
		a, err := r.Lookup(t.Context(), host)
		if err == nil && (!a.IsValid() || a.Zone() != "" || a.Is4In6()) {
			t.Errorf("%q: %s", host, a)
		}
	})
}
