package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

func TestNew_Faults(t *testing.T) {
	_, err := New(Options{
		Interval: -1,
		Servers: []*proxy.Server{
			nil,
			server("gopher", "192.0.2.1", 70),
			server("imap", "a b", 143),
			server("imap", "192.0.2.1", 65536),
		},
		MaxConcurrent: -2,
	})
	want := `monitor: interval is -1ns, must be more than zero
monitor: retry is 0s, must be more than zero
monitor: timeout is 0s, must be more than zero
monitor: rise is 0, must be at least 1
monitor: fall is 0, must be at least 1
monitor: at most -2 checks at once is not possible
monitor: nothing to resolve names with
monitor: backend 1 is nil
monitor: backend 2: unknown protocol "gopher"
monitor: backend 3: "a b" is no host name and no address
monitor: backend 4: port 65536 is outside 1-65535`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

func TestMonitor_Empty(t *testing.T) {
	m := fakeMonitor(t, &fake{}, options())
	if !m.Ready() || m.View() == nil {
		t.Error("an empty inventory must be ready at once")
	}
	synctest.Test(t, func(t *testing.T) {
		m := fakeMonitor(t, &fake{}, options())
		stop := start(t, m.Run)
		time.Sleep(time.Minute)
		stop()
		if err := m.Run(t.Context()); err == nil {
			t.Error("a second Run must be refused")
		}
	})
}

func TestMonitor_Clock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		m := fakeMonitor(t, f, options(server("imap", "192.0.2.1", 143)))
		begin := time.Now()
		defer start(t, m.Run)()
		time.Sleep(60 * time.Second)
		f.set("192.0.2.1", errBroken)
		broken := time.Now()
		time.Sleep(20 * time.Second)
		synctest.Wait()

		times := f.times("192.0.2.1")
		if d := times[0].Sub(begin); d > 500*time.Millisecond {
			t.Errorf("first check after %s, want at once", d)
		}
		retries, odd := 0, map[time.Duration]bool{}
		for i := 1; i < len(times); i++ {
			gap := times[i].Sub(times[i-1])
			if times[i-1].After(broken) {
				retries++
				if gap != time.Second {
					t.Errorf("%s after a failed check, want the retry of 1s", gap)
				}
				continue
			}
			odd[gap] = true
			if gap < 4500*time.Millisecond || gap > 5500*time.Millisecond {
				t.Errorf("%s between checks, want 5s give or take a tenth", gap)
			}
		}
		if retries < 13 {
			t.Errorf("%d retries", retries)
		}
		if len(odd) < 2 {
			t.Errorf("no jitter: %v", odd)
		}
		e := m.Status()[0]
		if e.Health != proxy.Down || e.LastError != "broken" {
			t.Errorf("%s, %q", e.Health, e.LastError)
		}
		if d := e.Since.Sub(broken); d > 7500*time.Millisecond {
			t.Errorf("down %s after it broke, want an interval and two retries at most", d)
		}
	})
}

func TestMonitor_Ready(t *testing.T) {
	tests := []struct {
		name string
		hang bool
		want time.Duration
	}{
		{"when all are checked", false, 500 * time.Millisecond},
		{"after one timeout", true, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := options(server("imap", "192.0.2.1", 143), server("imap", "192.0.2.2", 143))
				f := &fake{}
				if tt.hang {
					// Stuck, not slow: its check does not end by itself.
					release := make(chan struct{})
					defer close(release)
					f.stuck = map[string]chan struct{}{"192.0.2.2": release}
				}
				opt.Timeout = 3 * time.Second
				m := fakeMonitor(t, f, opt)
				early, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := m.WaitReady(early); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("before Run: %v", err)
				}
				begin := time.Now()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go func() {
					if err := m.Run(ctx); err != nil {
						t.Error(err)
					}
				}()
				if err := m.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				took := time.Since(begin)
				if took > tt.want || (tt.hang && took < tt.want) {
					t.Errorf("ready after %s, want %s", took, tt.want)
				}
				if !m.Ready() {
					t.Error("not ready")
				}
				if h := health(m, 0); h != proxy.Up {
					t.Errorf("ready, and the view says %s", h)
				}
				if h := health(m, 1); tt.hang && h != proxy.Unknown {
					t.Errorf("the one that is stuck is %s", h)
				}
			})
		})
	}
}

func TestMonitor_StuckCheckGrowsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{}
		rec := &recorder{}
		opt := options(server("imap", "192.0.2.1", 143))
		opt.Observer = rec
		m := fakeMonitor(t, f, opt)
		stop := start(t, m.Run)
		time.Sleep(2 * time.Second)
		f.mu.Lock()
		f.stuck = map[string]chan struct{}{"192.0.2.1": release}
		f.mu.Unlock()
		last := m.Status()[0].CheckedAt
		time.Sleep(time.Until(last.Add(15*time.Second - time.Millisecond)))
		synctest.Wait()
		if h := health(m, 0); h != proxy.Up {
			t.Errorf("%s, want up until three intervals have passed", h)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if h := health(m, 0); h != proxy.Stale {
			t.Errorf("view says %s, want stale", h)
		}
		if e := m.Status()[0]; e.Health != proxy.Stale || !e.Since.Equal(last.Add(15*time.Second)) {
			t.Errorf("status says %s since %s", e.Health, e.Since)
		}
		close(release)
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if h := health(m, 0); h != proxy.Up {
			t.Errorf("%s, want up again", h)
		}
		stop()
		want := []string{"192.0.2.1:143 checking up", "192.0.2.1:143 up stale", "192.0.2.1:143 stale up"}
		if diff := cmp.Diff(want, rec.transitions); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMonitor_Unresolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := options(server("imap", "nowhere.example.org", 143))
		opt.Names = namesFunc(func(context.Context, string) (netip.Addr, error) {
			return netip.Addr{}, &lookupError{"nowhere.example.org", errNoAddress}
		})
		f := &fake{}
		m := fakeMonitor(t, f, opt)
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := m.View().Entries[0]
		if e.Health != proxy.Down || e.Addr.IsValid() || e.LastError != "name does not resolve: the answer has no usable address" {
			t.Errorf("%s %s %q", e.Health, e.Addr, e.LastError)
		}
		if n := len(f.times("nowhere.example.org")); n != 0 {
			t.Errorf("%d checks went somewhere", n)
		}
	})
}

func TestMonitor_AddressFollowsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var addr atomic.Pointer[netip.Addr]
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		addr.Store(&a)
		opt := options(server("imap", "a.example.org", 143), server("imap", "::ffff:192.0.2.9", 143))
		opt.Names = namesFunc(func(context.Context, string) (netip.Addr, error) { return *addr.Load(), nil })
		m := fakeMonitor(t, &fake{}, opt)
		if got := m.View().Entries[1].Addr.String(); got != "192.0.2.9" {
			t.Errorf("before the first check an address is %s", got)
		}
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := m.View().Entries[0].Addr; got != a {
			t.Errorf("%s, want %s", got, a)
		}
		addr.Store(&b)
		time.Sleep(6 * time.Second)
		if got := m.View().Entries[0].Addr; got != b {
			t.Errorf("%s, want %s", got, b)
		}
	})
}

// Two hundred backends, one of which hangs until its timeout: the others' checks
// keep their clocks.
func TestMonitor_SlowDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*proxy.Server
		for i := range 200 {
			servers = append(servers, server("imap", fmt.Sprintf("192.0.2.%d", i), 143))
		}
		f := &fake{hang: map[string]bool{"192.0.2.77": true}}
		m := fakeMonitor(t, f, options(servers...))
		begin := time.Now()
		stop := start(t, m.Run)
		time.Sleep(time.Minute)
		stop()
		for i, s := range servers {
			times := f.times(s.Host)
			if i == 77 {
				if h := health(m, i); h != proxy.Down {
					t.Errorf("the slow one is %s", h)
				}
				continue
			}
			if d := times[0].Sub(begin); d > 100*time.Millisecond {
				t.Errorf("%s: first check after %s", s.Host, d)
			}
			for j := 1; j < len(times); j++ {
				if gap := times[j].Sub(times[j-1]); gap > 5500*time.Millisecond {
					t.Errorf("%s: %s between checks", s.Host, gap)
				}
			}
			if h := health(m, i); h != proxy.Up {
				t.Errorf("%s: %s", s.Host, h)
			}
		}
	})
}

func TestMonitor_MaxConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*proxy.Server
		for i := range 50 {
			servers = append(servers, server("imap", fmt.Sprintf("192.0.2.%d", i), 143))
		}
		opt := options(servers...)
		opt.MaxConcurrent = 7
		m := fakeMonitor(t, &fake{}, opt)
		var now, most, all atomic.Int32
		m.check = func(ctx context.Context, _ *proxy.Server, _ netip.Addr, _ func(string)) error {
			most.Store(max(most.Load(), now.Add(1)))
			all.Add(1)
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			return nil
		}
		stop := start(t, m.Run)
		time.Sleep(2 * time.Second)
		stop()
		if most.Load() > 7 || all.Load() < 50 {
			t.Errorf("%d checks at once, %d in all", most.Load(), all.Load())
		}
	})
}

func TestMonitor_StopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: map[string]bool{"192.0.2.1": true}}
		m := fakeMonitor(t, f, options(server("imap", "192.0.2.1", 143)))
		stop := start(t, m.Run)
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if d := time.Since(begin); d > 0 {
			t.Errorf("Run took %s to end", d)
		}
		if h := m.Status()[0].Health; h != proxy.Unknown {
			t.Errorf("%s: a check that was cut off says nothing", h)
		}
	})
}

func TestMonitor_Previous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.set("192.0.2.2", errBroken)
		old := fakeMonitor(t, f, options(
			server("imap", "192.0.2.1", 143),
			server("imap", "192.0.2.2", 143),
			server("pop3", "192.0.2.1", 110),
		))
		stop := start(t, old.Run)
		time.Sleep(time.Second)
		stop()

		secure := server("pop3", "192.0.2.1", 110)
		secure.TLS = true
		heavier := server("imap", "192.0.2.1", 143)
		heavier.Weight = 700
		opt := options(secure, server("imap", "192.0.2.2", 143), heavier)
		opt.Previous = old
		m := fakeMonitor(t, f, opt)
		var got []string
		for _, e := range m.View().Entries {
			got = append(got, fmt.Sprintf("%s %s %d", e.Address(), e.Health, e.Weight))
		}
		want := []string{"192.0.2.1:110 checking 100", "192.0.2.2:143 down 100", "192.0.2.1:143 up 700"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if m.Ready() {
			t.Error("ready, though the one of a protocol is new")
		}
		opt.Servers = []*proxy.Server{heavier, server("imap", "192.0.2.9", 143)}
		if m := fakeMonitor(t, f, opt); !m.Ready() {
			t.Error("not ready, though a new one is all that is not known")
		}
		opt.Servers = []*proxy.Server{heavier}
		if m := fakeMonitor(t, f, opt); !m.Ready() {
			t.Error("not ready, though all are known")
		}
		time.Sleep(time.Minute)
		if m := fakeMonitor(t, f, opt); health(m, 0) != proxy.Stale {
			t.Error("what a Monitor that stopped a minute ago knew is not stale")
		}
	})
}

// What Previous finds out while the rest of a configuration is being made is not
// lost: neither a fall nor a panic.
func TestMonitor_PreviousGoesOn(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	for name, tt := range map[string]struct {
		err  error
		want string
	}{"a fall": {errBroken, "dduuu"}, "a panic": {silence, "kkkkk"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, f, _, _, stop := panicking(t, 5, nil)
				opt := old.opt
				opt.Servers, opt.Observer = nil, &recorder{}
				for i := range 5 {
					opt.Servers = append(opt.Servers, server("imap", host(i), 143))
				}
				opt.Previous = old
				m := fakeMonitor(t, f, opt)
				for i, c := range tt.want {
					if c != 'u' {
						fail(f, tt.err, i)
					}
				}
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if s := shows(old); s != tt.want {
					t.Fatal(s)
				}
				fail(f, errBroken, 4) // of which it has yet to hear
				defer start(t, m.Run)()
				synctest.Wait()
				if s := shows(m); s != tt.want {
					t.Errorf("%s when it begins, want %s", s, tt.want)
				}
				if on := len(m.Panics()) > 0; on != (tt.want[0] == 'k') {
					t.Errorf("%+v", m.Panics())
				}
				stop()
			})
		})
	}
}

func TestMonitor_ViewIsMadeOnlyOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		m := fakeMonitor(t, f, options(server("imap", "192.0.2.1", 143), server("pop3", "192.0.2.1", 110)))
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		v, checked := m.View(), m.Status()[0].CheckedAt
		time.Sleep(time.Minute)
		if m.View() != v {
			t.Error("a new view, and nothing changed")
		}
		if s := m.Status()[0]; !s.CheckedAt.After(checked) {
			t.Error("Status is not fresh")
		}
		f.set("192.0.2.1", errBroken)
		time.Sleep(10 * time.Second)
		if m.View() == v {
			t.Error("the view did not follow")
		}
		if got := m.View().Entries[0].Machine(); got == nil || !got.Down {
			t.Error("the host is not down")
		}
	})
}

func TestMonitor_Observed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		rec := &recorder{}
		opt := options(server("imap", "192.0.2.1", 143))
		opt.Logger, opt.Observer, opt.Fall = zap.New(core), rec, 1
		f := &fake{}
		m := fakeMonitor(t, f, opt)
		stop := start(t, m.Run)
		time.Sleep(time.Second)
		f.set("192.0.2.1", errBroken)
		time.Sleep(10 * time.Second)
		stop()
		want := []string{"192.0.2.1:143 checking up", "192.0.2.1:143 up down"}
		if diff := cmp.Diff(want, rec.transitions); diff != "" {
			t.Error(diff)
		}
		if rec.good == 0 || rec.bad == 0 {
			t.Errorf("%d good checks, %d bad ones", rec.good, rec.bad)
		}
		var lines []string
		for _, l := range logs.All() {
			c := l.ContextMap()
			lines = append(lines, fmt.Sprint(l.Level, " ", l.Message, " ", c["backend"], " ", c["to"], " ", c["error"]))
		}
		want = []string{"info backend health 192.0.2.1:143 up <nil>", "warn backend health 192.0.2.1:143 down broken"}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
	})
}

// namesFunc is proxy.Names as a function.
type namesFunc func(ctx context.Context, host string) (netip.Addr, error)

func (f namesFunc) Lookup(ctx context.Context, host string) (netip.Addr, error) { return f(ctx, host) }

// recorder is an Observer that remembers.
type recorder struct {
	mu          sync.Mutex
	good, bad   int
	transitions []string
	panics      []string
}

func (r *recorder) Panic(protocol string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.panics = append(r.panics, fmt.Sprint(protocol, " ", on))
}

func (r *recorder) CheckDone(_ *proxy.Server, _ time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad++
	} else {
		r.good++
	}
}

func (r *recorder) Transition(s *proxy.Server, from, to proxy.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transitions = append(r.transitions, fmt.Sprint(s.Address(), " ", from, " ", to))
}
