package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

func TestIsSilence(t *testing.T) {
	tests := map[string]struct {
		err  error
		want bool
	}{
		"deadline":       {&checkError{"timeout", context.DeadlineExceeded}, true},
		"read deadline":  {fmt.Errorf("read: %w", os.ErrDeadlineExceeded), true},
		"no route":       {&net.OpError{Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, true},
		"no descriptors": {syscall.EMFILE, true},
		"no DNS":         {&checkError{"x", &net.DNSError{IsTimeout: true}}, true},
		"refused":        {syscall.ECONNREFUSED, false},
		"reset":          {syscall.ECONNRESET, false},
		"closed":         {io.EOF, false},
		"no such name":   {&net.DNSError{IsNotFound: true}, false},
		"words":          {errors.New("-ERR maintenance"), false},
	}
	for name, tt := range tests {
		if got := isSilence(tt.err); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// panicking is five backends with a fake behind them, watched and running.
func panicking(t *testing.T, n int, change func(*Options)) (*Monitor, *fake, *recorder, *observer.ObservedLogs, func()) {
	t.Helper()
	f, rec := &fake{}, &recorder{}
	core, logs := observer.New(zapcore.WarnLevel)
	opt := options()
	for i := range n {
		opt.Servers = append(opt.Servers, server("imap", host(i), 143))
	}
	opt.Servers = append(opt.Servers, server("lmtp", "192.0.2.99", 24))
	opt.PanicThreshold, opt.Observer, opt.Logger = 60, rec, zap.New(core)
	if change != nil {
		change(&opt)
	}
	m := fakeMonitor(t, f, opt)
	stop := start(t, m.Run)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	return m, f, rec, logs, stop
}

func host(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// shows is a letter a backend of imap: u up, k kept up, d down.
func shows(m *Monitor) string {
	var b strings.Builder
	for _, e := range m.View().Entries {
		switch {
		case e.Protocol != "imap":
		case e.Kept:
			b.WriteByte('k')
		default:
			b.WriteByte(e.Health.String()[0])
		}
	}
	return b.String()
}

func fail(f *fake, err error, hosts ...int) {
	for _, i := range hosts {
		f.set(host(i), err)
	}
}

func TestPanic(t *testing.T) {
	silence := error(&checkError{"timeout after 5s (connect)", context.DeadlineExceeded})
	refused := error(&checkError{"connection refused", syscall.ECONNREFUSED})
	tests := []struct {
		name string
		n    int
		fail func(f *fake)
		want string
	}{
		{"more than the threshold", 5, func(f *fake) { fail(f, silence, 0, 1, 2, 3) }, "kkkku"},
		{"all of them", 5, func(f *fake) { fail(f, silence, 0, 1, 2, 3, 4) }, "kkkkk"},
		{"the threshold itself", 5, func(f *fake) { fail(f, silence, 0, 1, 2) }, "ddduu"},
		{"both of two", 2, func(f *fake) { fail(f, silence, 0, 1) }, "kk"},
		{"one of one is no crowd", 1, func(f *fake) { fail(f, silence, 0) }, "d"},
		{"those that refuse say so", 5, func(f *fake) { fail(f, refused, 0, 1, 2, 3) }, "ddddu"},
		{"some refuse", 5, func(f *fake) { fail(f, silence, 0, 1, 2, 3); fail(f, refused, 4) }, "kkkkd"},
		{"too few silent ones", 5, func(f *fake) { fail(f, silence, 0, 1); fail(f, refused, 2) }, "ddduu"},
	}
	for i := range 2 * len(tests) {
		tt, fall := tests[i/2], 1+i%2*2
		t.Run(fmt.Sprint(tt.name, " fall ", fall), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f, rec, logs, stop := panicking(t, tt.n, func(o *Options) { o.Fall = fall })
				defer stop()
				tt.fail(f)
				for range 60 { // whatever is shown at the end was never anything else for the ones that are kept
					time.Sleep(time.Second)
					synctest.Wait()
					for i, c := range shows(m) {
						if tt.want[i] == 'k' && c == 'd' {
							t.Fatalf("%s on the way to %s", shows(m), tt.want)
						}
					}
				}
				if got := shows(m); got != tt.want {
					t.Fatalf("%s, want %s", got, tt.want)
				}
				if h := m.View().Entries[len(m.View().Entries)-1].Health; h != proxy.Up {
					t.Errorf("the other protocol is %s", h)
				}
				kept := strings.Contains(tt.want, "k")
				if got := len(m.Panics()) == 1; got != kept {
					t.Fatalf("Panics: %+v", m.Panics())
				}
				if !kept {
					if len(rec.panics) > 0 {
						t.Errorf("%v", rec.panics)
					}
					return
				}
				if p := m.Panics()[0]; p.Protocol != "imap" || p.Silent != strings.Count(tt.want, "k") || time.Since(p.Since) < 30*time.Second {
					t.Errorf("%+v", p)
				}
				for i, e := range m.Status() {
					if e.Kept && (e.LastError != "timeout after 5s (connect)" || e.Health != proxy.Up || e.Since.After(m.Panics()[0].Since)) {
						t.Errorf("entry %d: %s since %s, %q", i, e.Health, e.Since, e.LastError)
					}
				}
				// One that refuses now is down at once; the rest comes back.
				fail(f, refused, 0)
				time.Sleep(2 * time.Second)
				if got := shows(m); got[0] != 'd' {
					t.Errorf("%s after the first refused", got)
				}
				for i := range tt.n {
					f.set(host(i), nil)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if got := shows(m); got != strings.Repeat("u", tt.n) || len(m.Panics()) > 0 {
					t.Errorf("%s in the end, panics %v", got, m.Panics())
				}
				if diff := cmp.Diff([]string{"imap true", "imap false"}, rec.panics); diff != "" {
					t.Error(diff)
				}
				n := logs.FilterMessageSnippet("panic: too many").Len()
				if over := logs.FilterMessageSnippet("panic is over").Len(); n != 1 || over != 1 {
					t.Errorf("%d lines of the begin, %d of the end", n, over)
				}
			})
		})
	}
}

// One that falls silent alone falls as soon as the others have said that they are
// well, which they are asked at once.
func TestPanic_AloneFallsSoon(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		m, f, _, _, stop := panicking(t, 5, func(o *Options) { o.Fall = 1 })
		defer stop()
		checks := len(f.times(host(4)))
		fail(f, silence, 0)
		var fell time.Time
		for fell.IsZero() {
			time.Sleep(time.Millisecond)
			if m.targets[0].state.Load().health == proxy.Down {
				fell = time.Now()
			}
		}
		time.Sleep(3 * publishGap)
		synctest.Wait()
		if s := shows(m); s != "duuuu" {
			t.Errorf("%s %s after the check", s, 3*publishGap)
		}
		time.Sleep(time.Minute)
		if n := len(f.times(host(4))) - checks; n > 16 {
			t.Errorf("the others were checked %d times in a minute", n)
		}
	})
}

// One of the others hangs: the wait for it ends.
func TestPanic_DoubtEnds(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		m, f, _, _, stop := panicking(t, 5, func(o *Options) { o.Fall = 1 })
		release := make(chan struct{})
		f.mu.Lock()
		f.stuck = map[string]chan struct{}{host(1): release}
		f.mu.Unlock()
		fail(f, silence, 0)
		time.Sleep(12 * time.Second)
		synctest.Wait()
		if s := shows(m); s[0] != 'd' {
			t.Error(s)
		}
		close(release)
		stop()
	})
}

// When the network heals, backends recover one after the other: the last of them
// must not fall because the first are back.
func TestPanic_EndsCalmly(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		m, f, _, _, stop := panicking(t, 5, nil)
		defer stop()
		fail(f, silence, 0, 1, 2, 3, 4)
		time.Sleep(time.Minute)
		for i := range 4 {
			f.set(host(i), nil)
			time.Sleep(time.Second)
			synctest.Wait()
			if s := shows(m); strings.Contains(s, "d") {
				t.Fatalf("%s after %d recovered", s, i+1)
			}
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s := shows(m); s != "uuuud" {
			t.Errorf("%s, want the one that is still silent down", s)
		}
	})
}

// A reload in the middle keeps what was kept.
func TestPanic_SurvivesAReload(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		old, f, rec, _, stop := panicking(t, 5, nil)
		fail(f, silence, 0, 1, 2, 3)
		time.Sleep(time.Minute)
		stop()
		opt := options()
		for i := range 5 {
			opt.Servers = append(opt.Servers, server("imap", host(i), 143))
		}
		opt.Previous, opt.PanicThreshold, opt.Observer = old, 60, rec
		m := fakeMonitor(t, f, opt)
		defer start(t, m.Run)()
		for range 30 {
			time.Sleep(time.Second)
			synctest.Wait()
			if s := shows(m); s != "kkkku" {
				t.Fatal(s)
			}
		}
		if diff := cmp.Diff([]string{"imap true"}, rec.panics); diff != "" {
			t.Error(diff)
		}
	})
}

// A Monitor that is made and never run, of a reload that is refused, tells nobody
// of a panic's end; the one that runs does.
func TestPanic_RefusedReload(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		old, f, rec, logs, stop := panicking(t, 5, nil)
		fail(f, silence, 0, 1, 2, 3)
		time.Sleep(time.Minute)
		synctest.Wait()
		opt := options(server("pop3", host(0), 110))
		opt.Previous, opt.Observer, opt.Logger = old, rec, old.log
		m := fakeMonitor(t, f, opt)
		if over := logs.FilterMessageSnippet("panic is over").Len(); len(rec.panics) != 1 || over != 0 || len(old.Panics()) != 1 {
			t.Errorf("%q, %d lines of its end", rec.panics, over)
		}
		stop()
		defer start(t, m.Run)()
		synctest.Wait()
		if over := logs.FilterMessageSnippet("panic is over").Len(); fmt.Sprint(rec.panics) != "[imap true imap false]" || over != 1 {
			t.Errorf("when it runs: %q, %d lines of its end", rec.panics, over)
		}
	})
}

// Hosts that an operator took down for their maintenance are no sign of anything.
func TestPanic_OrdersDoNotCount(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		orders := memoryAdmin(t)
		down := proxy.AdminDown
		for i := range 3 {
			if err := orders.Order(t.Context(), Change{Target: Target{Host: host(i)}, State: &down}); err != nil {
				t.Fatal(err)
			}
		}
		m, f, _, _, stop := panicking(t, 5, func(o *Options) { o.Admin = orders })
		defer stop()
		fail(f, silence, 0, 1, 2, 3)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := shows(m); s != "ddddu" {
			t.Error(s)
		}
	})
}

// With a rise of more than one a backend is still on its way up when the network
// has healed and panic is over: it must not fall while its checks succeed.
func TestPanic_EndsWhileTheyRise(t *testing.T) {
	silence := error(&checkError{"timeout", context.DeadlineExceeded})
	synctest.Test(t, func(t *testing.T) {
		m, f, _, _, stop := panicking(t, 5, func(o *Options) { o.Rise = 10 })
		defer stop()
		fail(f, silence, 0, 1, 2, 3, 4)
		time.Sleep(time.Minute)
		for i := range 4 {
			f.set(host(i), nil)
		}
		over := false
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			over = over || len(m.Panics()) == 0
			if s := shows(m); strings.Contains(s[:4], "d") {
				t.Fatalf("%s, though all but the last are well, panics: %v", s, m.Panics())
			}
		}
		if s := shows(m); s != "uuuud" || !over {
			t.Errorf("%s, panics: %v", s, m.Panics())
		}
	})
	// The network breaks again, when panic is over and they are on their way up.
	synctest.Test(t, func(t *testing.T) {
		m, f, rec, _, stop := panicking(t, 5, func(o *Options) { o.Rise, o.Timeout = 20, time.Second })
		defer stop()
		for range 3 {
			fail(f, silence, 0, 1, 2, 3, 4)
			for range 60 {
				time.Sleep(time.Second)
				synctest.Wait()
				if s := shows(m); strings.Contains(s, "d") {
					t.Fatalf("%s, panics: %v", s, m.Panics())
				}
			}
			for i := range 5 {
				f.set(host(i), nil)
			}
			time.Sleep(15 * time.Second)
			synctest.Wait()
			if s := shows(m); s != "kkkkk" || len(m.Panics()) > 0 {
				t.Fatalf("%s, panics: %v", s, m.Panics())
			}
		}
		if n := len(rec.panics); n != 6 {
			t.Errorf("%q", rec.panics)
		}
	})
	// One that fails again meanwhile, alone, has no excuse.
	synctest.Test(t, func(t *testing.T) {
		m, f, _, _, stop := panicking(t, 5, func(o *Options) { o.Rise = 20 })
		defer stop()
		fail(f, silence, 0, 1, 2, 3, 4)
		time.Sleep(time.Minute)
		for i := range 5 {
			f.set(host(i), nil)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(m.Panics()) > 0 {
			t.Fatal("it goes on")
		}
		fail(f, silence, 2)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := shows(m); s != "kkdkk" {
			t.Error(s)
		}
	})
}

// A check of another that ends while the doubt begins did not know of it: the
// publisher looks again.
func TestPanic_DoubtLooksAgain(t *testing.T) {
	m := fakeMonitor(t, &fake{}, options(server("imap", host(0), 143), server("imap", host(1), 143)))
	now := time.Now()
	for i, st := range []state{
		{health: proxy.Up, since: now, checkedAt: now},
		{health: proxy.Up, since: now, checkedAt: now},
		{health: proxy.Down, since: now, checkedAt: now, failed: true, silent: now.Add(time.Millisecond)},
	} {
		m.targets[i%2].state.Store(&st)
		m.rebuild()
	}
	if s := shows(m); s != "ku" || len(m.dirty) != 1 {
		t.Fatalf("%s, %d", s, len(m.dirty))
	}
	<-m.dirty
	m.rebuild()
	if len(m.dirty) != 0 {
		t.Error("and again without an end")
	}
}
