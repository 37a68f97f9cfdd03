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
	opt   Options
	log   *zap.Logger
	rule  rule
	check func(ctx context.Context, s *proxy.Server, addr netip.Addr, trace func(line string)) error

	slots chan struct{} // one element a running check
	dirty chan struct{} // capacity 1: what is shown is behind the states
	moved chan struct{} // capacity 1: the inventory changed
	ready chan struct{} // closed by New or by the publisher
	ended chan struct{} // closed by Run
	began atomic.Bool
	asked onDemand

	doubting atomic.Bool // a backend fell silent, and the others are being asked

	mu      sync.Mutex
	counted map[string]time.Time // by protocol: when all were last asked
	targets []*target            // replaced whole
	partial bool                 // the inventory is not whole yet; see Options.Partial

	publishing sync.Mutex            // who holds it may replace shown
	shown      atomic.Pointer[shown] // never nil
	told       map[string]panicState // panics that the log and the Observer know of; under publishing
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
		opt:     opt,
		log:     opt.Logger.Named("monitor"),
		rule:    rule{opt.Rise, opt.Fall, opt.staleAfter()},
		slots:   make(chan struct{}, opt.MaxConcurrent),
		dirty:   make(chan struct{}, 1),
		moved:   make(chan struct{}, 1),
		ready:   make(chan struct{}),
		ended:   make(chan struct{}),
		partial: opt.Partial,
		counted: map[string]time.Time{},
	}
	p := &prober{dial: opt.Dial, roots: opt.Roots, timeout: opt.Timeout, log: m.log}
	m.check = p.run
	m.asked.init(opt.Timeout)

	before := &shown{}
	goesOn := false
	if opt.Previous != nil {
		goesOn = opt.Previous.Ready()
		before = opt.Previous.shown.Load()
	}
	m.targets = succeed(before.targets, opt.Servers, false)
	entries, panics := m.compose(before.panics, m.targets, time.Now())
	m.show(entries, m.targets, panics)
	m.told = before.panics // what has changed is Run's to tell: this one may never run
	if m.whole() || goesOn && served(m.View()) {
		close(m.ready)
	}
	return m, nil
}

// succeed makes the targets of servers. What is known of a backend goes on in
// the target that takes its place. With reuse its clock goes on too, if it is
// checked as before: other weights and tags begin nothing anew.
func succeed(old []*target, servers []*proxy.Server, reuse bool) []*target {
	known := make(map[identity]*target, len(old))
	for _, t := range old {
		known[identify(t.server)] = t
	}
	targets := make([]*target, 0, len(servers))
	for _, s := range servers {
		was := known[identify(s)]
		if reuse && was != nil && was.server == s {
			targets = append(targets, was)
			continue
		}
		t := newTarget(s)
		switch {
		case was == nil:
		case reuse && questionOf(was.server) == questionOf(s):
			t.watched = was.watched
		default:
			t.state.Store(was.state.Load())
			t.seen.Store(was.seen.Load())
		}
		targets = append(targets, t)
	}
	return targets
}

// catchUp takes over what Previous has found out since New.
func (m *Monitor) catchUp() {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	if m.opt.Previous == nil {
		return
	}
	before := m.opt.Previous.shown.Load()
	m.opt.Previous = nil // or every reload would keep all Monitors before it
	known := make(map[identity]*state, len(before.targets))
	for _, t := range before.targets {
		known[identify(t.server)] = t.state.Load()
	}
	targets, _ := m.inventory()
	for _, t := range targets {
		if st := known[identify(t.server)]; st != nil && st.checkedAt.After(t.state.Load().checkedAt) {
			t.state.Store(st)
		}
	}
	sh := m.shown.Load()
	m.shown.Store(&shown{sh.view, sh.targets, before.panics})
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

// SetServers makes servers the inventory, whole from now on. Of a backend that
// stays, what is known stays too. An error names every fault, and changes
// nothing.
func (m *Monitor) SetServers(servers []*proxy.Server) error {
	if err := validServers(servers); err != nil {
		return err
	}
	m.mu.Lock()
	old := m.targets
	m.targets = succeed(old, servers, true)
	m.partial = false
	stays := watchedOf(m.targets)
	for _, t := range old {
		if !stays[t.watched] {
			close(t.gone)
		}
	}
	m.mu.Unlock()
	m.rebuild()
	signal(m.moved)
	signal(m.dirty)
	return nil
}

func watchedOf(targets []*target) map[*watched]bool {
	of := make(map[*watched]bool, len(targets))
	for _, t := range targets {
		of[t.watched] = true
	}
	return of
}

// inventory returns the targets of now, and whether there are to be more.
func (m *Monitor) inventory() (targets []*target, partial bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.targets, m.partial
}

// signal wakes who waits for c, whose capacity is 1: if it is full, he has yet to
// look, and will see this too.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run checks until ctx ends, waits for all that it started and returns nil. It
// can be called once; a second call returns an error.
func (m *Monitor) Run(ctx context.Context) error {
	if m.began.Swap(true) {
		return errors.New("monitor: Run was called before")
	}
	defer close(m.ended)
	defer m.asked.stop()
	defer m.opt.Admin.Watch(m.rebuild)()
	m.catchUp()
	m.rebuild() // with orders that were given since New
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.publish(ctx) })

	running := map[*watched]context.CancelFunc{}
	for {
		targets, _ := m.inventory()
		stays := watchedOf(targets)
		for w, stop := range running {
			if !stays[w] {
				stop()
				delete(running, w)
			}
		}
		spread := min(time.Duration(len(targets))*spreadPerBackend, m.opt.Interval/10)
		for _, t := range targets {
			if running[t.watched] != nil {
				continue
			}
			tctx, stop := context.WithCancel(ctx)
			running[t.watched] = stop
			wg.Go(func() { m.watch(tctx, t, time.Duration(rand.Float64()*float64(spread))) })
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-m.moved:
		}
	}
}

// watch is the clock of one backend.
func (m *Monitor) watch(ctx context.Context, t *target, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		var now *checkOrder
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case now = <-t.now:
		case <-t.soon:
		}
		select {
		case <-ctx.Done():
			return
		case m.slots <- struct{}{}:
		}
		began := time.Now()
		r := m.probe(ctx, t.server, began, now.tracer())
		<-m.slots
		if ctx.Err() != nil {
			return // the check was cut off: it says nothing
		}
		timer.Reset(m.record(t, r) - time.Since(began))
		now.answer(r)
	}
}

// probe runs one check.
func (m *Monitor) probe(ctx context.Context, s *proxy.Server, began time.Time, trace func(line string)) result {
	ctx, cancel := context.WithTimeout(ctx, m.opt.Timeout)
	defer cancel()
	addr, err := m.opt.Names.Lookup(ctx, s.Host)
	if err != nil {
		err = unresolved(err, m.opt.Timeout)
	} else {
		err = m.check(ctx, s, addr, trace)
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
	// Comparing with what is shown too heals what the publisher saw a moment too
	// early: it may have called the old state stale while this one was stored.
	seen := t.seen.Load()
	if st.health != was || st.silent != old.silent || seen == nil || st.health != seen.Health || st.addr != seen.Addr || m.doubting.Load() {
		signal(m.dirty)
	}
	if st.silent.Equal(r.at) && (was == proxy.Up || seen != nil && seen.Kept) {
		m.askOthers(t, r.at)
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
