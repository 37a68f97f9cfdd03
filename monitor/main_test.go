package monitor

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// literals answers for addresses alone.
type literals struct{}

func (literals) Lookup(_ context.Context, host string) (netip.Addr, error) {
	return netip.ParseAddr(host)
}

// start runs f until the test or synctest bubble calls stop, which waits.
func start(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// options are those of the contract, for backends that fake checks.
func options(servers ...*proxy.Server) Options {
	return Options{
		Servers:  servers,
		Interval: 5 * time.Second,
		Retry:    time.Second,
		Timeout:  5 * time.Second,
		Rise:     1,
		Fall:     3,
		Names:    literals{},
	}
}

func server(protocol, host string, port int) *proxy.Server {
	return &proxy.Server{Protocol: protocol, Host: host, Port: port, Weight: 100}
}

// fake stands for all backends: a check of one returns what set said last. It
// records the times of checks.
type fake struct {
	mu     sync.Mutex
	err    map[string]error
	hang   map[string]bool // until ctx ends
	stuck  map[string]chan struct{}
	checks map[string][]time.Time
}

var errBroken = errors.New("broken")

func (f *fake) set(host string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = map[string]error{}
	}
	f.err[host] = err
}

func (f *fake) times(host string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checks[host]
}

func (f *fake) check(ctx context.Context, s *proxy.Server, _ netip.Addr, _ func(string)) error {
	f.mu.Lock()
	if f.checks == nil {
		f.checks = map[string][]time.Time{}
	}
	f.checks[s.Host] = append(f.checks[s.Host], time.Now())
	err, hang, stuck := f.err[s.Host], f.hang[s.Host], f.stuck[s.Host]
	f.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// fakeMonitor makes a Monitor whose checks are f's.
func fakeMonitor(t *testing.T, f *fake, opt Options) *Monitor {
	t.Helper()
	m, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	m.check = f.check
	return m
}

func health(m *Monitor, i int) proxy.Health { return m.View().Entries[i].Health }
