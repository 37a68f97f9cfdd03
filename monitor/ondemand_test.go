package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy"
)

func TestCheckConnection(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	m, err := New(options())
	if err != nil {
		t.Fatal(err)
	}
	defer m.asked.stop()
	port := l.Addr().(*net.TCPAddr).Port
	if err := m.CheckConnection(t.Context(), &proxy.Server{Host: "127.0.0.1", Port: port}); err != nil {
		t.Error(err)
	}
	s := &proxy.Server{Protocol: "gopher", Host: "127.0.0.1", Port: port} // the inventory has no such protocol
	if err := m.CheckConnection(t.Context(), s); err != nil {
		t.Error(err)
	}
	closed := &proxy.Server{Host: "127.0.0.1", Port: 1}
	if err := m.CheckConnection(t.Context(), closed); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
	if err := m.CheckConnection(t.Context(), &proxy.Server{Host: "no host", Port: 1}); err == nil {
		t.Error("no host: no error")
	}
}

// asking is a Monitor whose checks take a second, and how many there were.
func asking(t *testing.T, answer func() error) (*Monitor, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	m := fakeMonitor(t, &fake{}, options())
	m.check = func(ctx context.Context, _ *proxy.Server, _ netip.Addr, _ func(string)) error {
		n.Add(1)
		select {
		case <-time.After(time.Second):
			return answer()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return m, &n
}

func TestCheckConnection_Shares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		m, n := asking(t, func() error {
			if down.Load() {
				return errBroken
			}
			return nil
		})
		ask := func(host string) error { return m.CheckConnection(t.Context(), server("imap", host, 143)) }
		var wg sync.WaitGroup
		begin := time.Now()
		for range 100 {
			wg.Go(func() {
				if err := ask("192.0.2.1"); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := ask("192.0.2.2"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(begin); n.Load() != 2 || d != time.Second {
			t.Errorf("%d checks in %s, want one a backend", n.Load(), d)
		}
		down.Store(true)
		time.Sleep(askedFor - time.Millisecond)
		if err := ask("192.0.2.1"); err != nil || n.Load() != 2 {
			t.Errorf("within a second: %v after %d checks", err, n.Load())
		}
		time.Sleep(time.Millisecond)
		for range 2 { // a failure is remembered too
			if err := ask("192.0.2.1"); !errors.Is(err, errBroken) || n.Load() != 3 {
				t.Errorf("later: %v after %d checks", err, n.Load())
			}
		}
		tls := server("imap", "192.0.2.1", 143)
		tls.TLS = true
		if err := m.CheckConnection(t.Context(), tls); !errors.Is(err, errBroken) || n.Load() != 4 {
			t.Errorf("other settings: %v after %d checks", err, n.Load())
		}
	})
}

// Who is in a hurry leaves; the check goes on for the others.
func TestCheckConnection_Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n := asking(t, func() error { return nil })
		hurry, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		s := server("imap", "192.0.2.1", 143)
		begin := time.Now()
		if err := m.CheckConnection(hurry, s); err == nil || err.Error() != "timeout" || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if err := m.CheckConnection(t.Context(), s); err != nil || n.Load() != 1 || time.Since(begin) != time.Second {
			t.Errorf("%v after %s and %d checks", err, time.Since(begin), n.Load())
		}
	})
}

func TestCheckConnection_Bounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n := asking(t, func() error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		named := func(i int) *proxy.Server {
			return server("imap", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), 143)
		}
		for i := range 100_000 { // nobody waits for them, and all are under way
			if err := m.CheckConnection(ctx, named(i)); err == nil {
				t.Fatal("no error")
			}
		}
		synctest.Wait()
		if err := m.CheckConnection(t.Context(), named(100_000)); !errors.Is(err, errTooBusy) || n.Load() != maxFlying {
			t.Errorf("one more: %v, %d checks run", err, n.Load())
		}
		if err := m.CheckConnection(t.Context(), named(0)); err != nil || n.Load() != maxFlying {
			t.Errorf("to share one that is under way: %v after %d checks", err, n.Load())
		}
		m.check = (&fake{}).check
		for i := range 4 * maxAsked { // they land within a second, so all of them are remembered
			if err := m.CheckConnection(t.Context(), named(i)); err != nil {
				t.Fatal(err)
			}
			if n := len(m.asked.flights); n > maxAsked {
				t.Fatalf("%d answers are kept", n)
			}
		}
		m.asked.stop()
		if err := m.CheckConnection(t.Context(), named(0)); err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A protocol that has no check of its own is any text of a policy's.
func TestCheckConnection_RemembersNoText(t *testing.T) {
	m := fakeMonitor(t, &fake{}, options())
	defer m.asked.stop()
	for i := range 10 {
		s := server(strings.Repeat("x", 1<<20)+fmt.Sprint(i), "192.0.2.1", 70)
		if err := m.CheckConnection(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	size := 0
	for q := range m.asked.flights {
		size += len(q.protocol)
	}
	if len(m.asked.flights) != 1 || size > 100 {
		t.Errorf("%d answers with %d bytes of protocols", len(m.asked.flights), size)
	}
}

func TestMonitor_CheckNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		m := fakeMonitor(t, f, options(pair()...))
		m.check = func(ctx context.Context, s *proxy.Server, a netip.Addr, trace func(string)) error {
			if trace != nil {
				trace("S: " + s.Protocol)
			}
			return f.check(ctx, s, a, trace)
		}
		m.opt.Names = namesFunc(func(context.Context, string) (netip.Addr, error) { return netip.MustParseAddr("192.0.2.77"), nil })
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		// It is down; nobody knows yet. An order to check finds out, and one that
		// finds it well again brings it back.
		f.set("192.0.2.2", errBroken)
		var got []string
		for range 3 {
			reports, err := m.CheckNow(t.Context(), Target{Host: "192.0.2.2"})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range reports {
				got = append(got, fmt.Sprint(r.Entry.Address(), " ", r.Entry.Health, " ", r.Err, " ", r.Lines))
			}
		}
		f.set("192.0.2.2", nil)
		reports, err := m.CheckNow(t.Context(), Target{Host: "192.0.2.2", Port: 143})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports {
			got = append(got, fmt.Sprint(r.Entry.Address(), " ", r.Entry.Health, " ", r.Err, " ", r.Lines))
		}
		want := []string{
			"192.0.2.2:143 up broken [S: imap]", "192.0.2.2:25 up broken [S: smtp]",
			"192.0.2.2:143 up broken [S: imap]", "192.0.2.2:25 up broken [S: smtp]",
			"192.0.2.2:143 down broken [S: imap]", "192.0.2.2:25 down broken [S: smtp]",
			"192.0.2.2:143 up <nil> [S: imap]",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
		if _, err := m.CheckNow(t.Context(), Target{Host: "192.0.2.9"}); !errors.Is(err, ErrNoBackend) {
			t.Errorf("%v", err)
		}
		hurry, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f.mu.Lock()
		f.hang = map[string]bool{"192.0.2.2": true}
		f.mu.Unlock()
		if _, err := m.CheckNow(hurry, Target{Host: "192.0.2.2"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// A backend that leaves while somebody waits for its check, and the end of Run:
// who waits is told.
func TestMonitor_CheckNow_Gone(t *testing.T) {
	a, b, other := server("imap", "192.0.2.2", 143), server("smtp", "192.0.2.2", 25), server("imap", "192.0.2.3", 143)
	deeper := *a
	deeper.DeepCheck = true
	tests := []struct {
		name  string
		delay map[int]time.Duration // of a check, by port
		leave func(m *Monitor, stop func()) error
	}{
		{"while it is checked", map[int]time.Duration{143: 4 * time.Second}, func(m *Monitor, _ func()) error {
			return m.SetServers([]*proxy.Server{b, other})
		}},
		{"with other settings", map[int]time.Duration{143: 4 * time.Second}, func(m *Monitor, _ func()) error {
			return m.SetServers([]*proxy.Server{&deeper, b, other})
		}},
		{"when it was checked, and the other was not", map[int]time.Duration{25: 4 * time.Second}, func(m *Monitor, _ func()) error {
			return m.SetServers([]*proxy.Server{b, other})
		}},
		{"for a moment", map[int]time.Duration{143: 4 * time.Second}, func(m *Monitor, _ func()) error {
			if err := m.SetServers([]*proxy.Server{b, other}); err != nil {
				return err
			}
			return m.SetServers([]*proxy.Server{a, b, other})
		}},
		{"at the end", map[int]time.Duration{143: 4 * time.Second}, func(_ *Monitor, stop func()) error {
			stop()
			return nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := fakeMonitor(t, &fake{}, options(a, b, other))
				var slow atomic.Bool
				m.check = func(ctx context.Context, s *proxy.Server, _ netip.Addr, _ func(string)) error {
					if d := tt.delay[s.Port]; slow.Load() && d > 0 {
						select {
						case <-time.After(d):
						case <-ctx.Done():
							return ctx.Err()
						}
					}
					return nil
				}
				stop := sync.OnceFunc(start(t, m.Run))
				defer stop()
				if err := m.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				slow.Store(true)
				begin, done := time.Now(), make(chan struct{})
				go func() {
					defer close(done)
					reports, err := m.CheckNow(t.Context(), Target{Host: "192.0.2.2"})
					if err == nil || time.Since(begin) > 5*time.Second {
						t.Errorf("after %s: %+v, %v", time.Since(begin), reports, err)
					}
				}()
				time.Sleep(time.Second)
				if err := tt.leave(m, stop); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("it waits for ever")
				}
			})
		})
	}
}
