package monitor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// spreadPerBackend spaces the first checks, so that a start is no burst: 2,000
// backends begin within 0.2 s.
const spreadPerBackend = 100 * time.Microsecond

// A Monitor checks backends and publishes their health. It implements
// proxy.Backends. All methods may be called by many goroutines at once.
type Monitor struct {
	opt     Options
	log     *zap.Logger
	rule    rule
	check   func(ctx context.Context, s *proxy.Server, addr netip.Addr, trace func(line string)) error
	targets []*target

	slots chan struct{}              // one element a running check
	dirty chan struct{}              // capacity 1: the view is behind the states
	view  atomic.Pointer[proxy.View] // replaced by the publisher alone
	ready chan struct{}              // closed by New or by the publisher
	began atomic.Bool
}

var _ proxy.Backends = (*Monitor)(nil)

// New makes a Monitor and starts nothing. Its View stands at once: backends
// are unknown, or as Previous knew them. The error names every fault of opt.
func New(opt Options) (*Monitor, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	opt.fill()
	m := &Monitor{
		opt:   opt,
		log:   opt.Logger.Named("monitor"),
		rule:  rule{opt.Rise, opt.Fall, opt.staleAfter()},
		slots: make(chan struct{}, opt.MaxConcurrent),
		dirty: make(chan struct{}, 1),
		ready: make(chan struct{}),
	}
	p := &prober{dial: opt.Dial, roots: opt.Roots, timeout: opt.Timeout, log: m.log}
	m.check = p.run
	known := map[identity]*state{}
	goesOn := opt.Previous != nil && opt.Previous.Ready()
	if opt.Previous != nil {
		for _, t := range opt.Previous.targets {
			known[identify(t.server)] = t.state.Load()
		}
	}
	m.opt.Previous = nil // or every reload would keep all Monitors before it
	for i, s := range opt.Servers {
		t := &target{server: s, index: i}
		st := known[identify(s)]
		if st == nil {
			st = &state{}
			if a, err := netip.ParseAddr(s.Host); err == nil {
				st.addr = a.Unmap()
			}
		}
		t.state.Store(st)
		m.targets = append(m.targets, t)
	}
	view := proxy.NewView(m.Status())
	m.view.Store(view)
	if m.unchecked() == 0 || goesOn && served(view) {
		close(m.ready)
	}
	return m, nil
}

// served reports whether each protocol of the inventory has a backend to offer.
func served(v *proxy.View) bool {
	for i := range v.Entries {
		p := v.Entries[i].Protocol
		if !slices.ContainsFunc(v.Listed("", false), func(e *proxy.Entry) bool { return e.Protocol == p }) {
			return false
		}
	}
	return true
}

// Run checks until ctx ends, waits for all that it started and returns nil. It
// can be called once; a second call returns an error.
func (m *Monitor) Run(ctx context.Context) error {
	if m.began.Swap(true) {
		return errors.New("monitor: Run was called before")
	}
	spread := min(time.Duration(len(m.targets))*spreadPerBackend, m.opt.Interval/10)
	var wg sync.WaitGroup
	wg.Go(func() { m.publish(ctx) })
	for _, t := range m.targets {
		wg.Go(func() { m.watch(ctx, t, time.Duration(rand.Float64()*float64(spread))) })
	}
	wg.Wait()
	return nil
}

// watch is the clock of one backend.
func (m *Monitor) watch(ctx context.Context, t *target, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case m.slots <- struct{}{}:
		}
		began := time.Now()
		r := m.probe(ctx, t.server, began)
		<-m.slots
		if ctx.Err() != nil {
			return // the check was cut off: it says nothing
		}
		timer.Reset(m.record(t, r) - time.Since(began))
	}
}

// probe runs one check.
func (m *Monitor) probe(ctx context.Context, s *proxy.Server, began time.Time) result {
	ctx, cancel := context.WithTimeout(ctx, m.opt.Timeout)
	defer cancel()
	addr, err := m.opt.Names.Lookup(ctx, s.Host)
	if err != nil {
		err = unresolved(err, m.opt.Timeout)
	} else {
		err = m.check(ctx, s, addr, nil)
	}
	now := time.Now()
	return result{at: now, took: now.Sub(began), addr: addr, err: err}
}

// record takes a result in and returns the time from the start of this check to
// the start of the next.
func (m *Monitor) record(t *target, r result) time.Duration {
	old := t.state.Load()
	st := old.next(r, m.rule)
	t.state.Store(st)
	was, _ := old.healthAt(r.at, m.rule)
	// Comparing with the view too heals what the publisher saw a moment too
	// early: it may have called the old state stale while this one was stored.
	shown := &m.view.Load().Entries[t.index]
	if st.health != was || st.health != shown.Health || st.addr != shown.Addr {
		select {
		case m.dirty <- struct{}{}:
		default: // the publisher has yet to look, and will see this too
		}
	}
	m.opt.Observer.CheckDone(t.server, r.took, r.err)
	if st.unsettled() {
		return m.opt.Retry
	}
	return jitter(m.opt.Interval)
}

// Ready reports whether WaitReady would return at once.
func (m *Monitor) Ready() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// WaitReady returns nil when every backend was checked once, or one Timeout
// after Run began, whichever is first; at once with no backends, when Previous
// knew them all, and when Previous was ready and every protocol has one that is
// up: a new backend that hangs delays nobody's login. Else it returns an error
// that wraps ctx's.
func (m *Monitor) WaitReady(ctx context.Context) error {
	if m.Ready() {
		return nil
	}
	select {
	case <-m.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("monitor: backends are not checked yet: %w", ctx.Err())
	}
}

// jitter returns d, more or less by up to a tenth.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
