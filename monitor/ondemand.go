package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"usher/proxy"
)

const (
	// askedFor is how long the answer to a policy's question stands for the next
	// that asks the same.
	askedFor = time.Second
	// maxAsked bounds the answers that are remembered. Beyond it the oldest go.
	maxAsked = 4096
	// maxFlying bounds the checks that are under way, and so the sockets: a policy
	// may name any host, and its requests don't wait for the checks to end.
	maxFlying = 1024
)

var (
	errTooBusy = errors.New("too many checks are under way")
	errEnded   = errors.New("the monitor is stopped")
)

// A question is what a policy can ask about: settings that make two checks the
// same.
type question struct {
	protocol, host                                 string
	port                                           int
	tls, startTLS, skipVerify, proxyV2, deep       bool
	requestURI, expectStatus, username, passphrase string
}

func questionOf(s *proxy.Server) question {
	protocol := s.Protocol
	if checks[protocol] == nil { // all of these are checked alike
		protocol = ""
	}
	return question{
		protocol, s.Host, s.Port, s.TLS, s.StartTLS, s.TLSSkipVerify, s.HAProxyV2, s.DeepCheck,
		s.RequestURI, s.ExpectStatus, s.TestUsername, s.TestPassword.Reveal(),
	}
}

// A flight is one check that all who ask the same share.
type flight struct {
	done chan struct{} // closed when err and at are set
	err  error
	at   time.Time
}

// old reports whether the flight landed, and its answer is no longer one.
func (f *flight) old(now time.Time) bool {
	select {
	case <-f.done:
		return now.Sub(f.at) >= askedFor
	default:
		return false
	}
}

// onDemand are the checks that policies ask for.
type onDemand struct {
	mu      sync.Mutex
	flights map[question]*flight
	flying  int // of flights: under way
	ctx     context.Context
	cancel  context.CancelFunc
	timeout time.Duration
	running sync.WaitGroup
}

func (o *onDemand) init(timeout time.Duration) {
	o.flights = map[question]*flight{}
	o.timeout = timeout
	o.ctx, o.cancel = context.WithCancel(context.Background())
}

// stop ends what is under way, and waits for it.
func (o *onDemand) stop() {
	o.mu.Lock()
	o.cancel()
	o.mu.Unlock()
	o.running.Wait()
}

// join returns the flight for q: one that is under way or landed a moment ago, or
// one that it starts with check; it fails at once where too many are under way.
func (o *onDemand) join(q question, check func(context.Context) error) *flight {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.flights[q]; f != nil && !f.old(now) {
		return f
	}
	if len(o.flights) >= maxAsked {
		o.forget(now)
	}
	f := &flight{done: make(chan struct{})}
	switch {
	case o.ctx.Err() != nil:
		f.err = errEnded
	case o.flying >= maxFlying:
		f.err = errTooBusy
	}
	if f.err != nil {
		close(f.done)
		return f
	}
	o.flights[q] = f
	o.flying++
	o.running.Go(func() {
		ctx, cancel := context.WithTimeout(o.ctx, o.timeout)
		defer cancel()
		f.err = check(ctx)
		f.at = time.Now()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.flying--
		close(f.done)
	})
	return f
}

// forget drops the answers that are old. If there are none, it drops all that
// landed: who waits for one holds it.
func (o *onDemand) forget(now time.Time) {
	maps.DeleteFunc(o.flights, func(_ question, f *flight) bool { return f.old(now) })
	if len(o.flights) >= maxAsked {
		maps.DeleteFunc(o.flights, func(_ question, f *flight) bool { return f.old(now.Add(askedFor)) })
	}
}

// CheckConnection runs one check of s now, outside of the inventory, for a
// policy that asks: a connection, and what s says of TLS and PROXY headers; of a
// protocol that has no check of its own nothing more. Calls for the same share one
// check, and its answer for a second. ctx bounds the wait, Options.Timeout the
// check. The error's text is made for an operator.
func (m *Monitor) CheckConnection(ctx context.Context, s *proxy.Server) error {
	f := m.asked.join(questionOf(s), func(ctx context.Context) error { return m.checkOnce(ctx, s) })
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errors.New("timeout")
		}
		return ctx.Err()
	}
}

func (m *Monitor) checkOnce(ctx context.Context, s *proxy.Server) error {
	addr, err := m.opt.Names.Lookup(ctx, s.Host)
	if err != nil {
		return unresolved(err, m.opt.Timeout)
	}
	return m.check(ctx, s, addr, nil)
}

// A checkOrder has a backend checked at once.
type checkOrder struct {
	trace func(line string)
	done  chan result // capacity 1
}

func (o *checkOrder) tracer() func(line string) {
	if o == nil {
		return nil
	}
	return o.trace
}

func (o *checkOrder) answer(r result) {
	if o != nil {
		o.done <- r
	}
}

// A CheckReport is what a check that was ordered came to.
type CheckReport struct {
	Entry proxy.Entry // as it is shown after it
	Addr  netip.Addr  // that it went to; invalid: the name did not resolve
	Took  time.Duration
	Err   error    // nil: the backend is well. The text is made for an operator
	Lines []string // what was said and heard; secrets are starred
}

// maxReport bounds a report's lines.
const maxReport = 500

// CheckNow checks the backends that t names, at the same moment, and returns a
// report each, in the inventory's order. The results count like those of any other
// check. An error that wraps ErrNoBackend: there is none, or it left the inventory
// meanwhile; others are ctx's, and that of a Run that has ended.
func (m *Monitor) CheckNow(ctx context.Context, t Target) ([]CheckReport, error) {
	if _, err := m.Find(t); err != nil {
		return nil, err
	}
	var checked []*target
	targets, _ := m.inventory()
	for _, tg := range targets {
		if tg.machine == t.Host && (t.Port == 0 || tg.server.Port == t.Port) {
			checked = append(checked, tg)
		}
	}
	if len(checked) == 0 { // it left since Find
		return nil, fmt.Errorf("%w: %s", ErrNoBackend, t)
	}
	reports := make([]CheckReport, len(checked))
	errs := make([]error, len(checked))
	var wg sync.WaitGroup
	for i, tg := range checked {
		wg.Go(func() { reports[i], errs[i] = tg.checkNow(ctx, m.ended) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	m.rebuild()
	entries := m.Status()
	for i, tg := range checked {
		j := slices.IndexFunc(entries, func(e proxy.Entry) bool { return identify(e.Server) == identify(tg.server) })
		if j < 0 {
			return nil, tg.left()
		}
		reports[i].Entry = entries[j]
	}
	return reports, nil
}

// left is the error of a check of a target that is none any more.
func (t *target) left() error {
	return fmt.Errorf("%w any more, or not with the same settings: %s %s", ErrNoBackend, t.server.Protocol, t.entry)
}

// checkNow has the target's watcher check it. None watches when ended is closed.
func (t *target) checkNow(ctx context.Context, ended <-chan struct{}) (CheckReport, error) {
	var rep CheckReport
	o := &checkOrder{done: make(chan result, 1), trace: func(line string) {
		if len(rep.Lines) < maxReport {
			rep.Lines = append(rep.Lines, line)
		}
	}}
	for orders := t.now; ; {
		var cause error
		select {
		case orders <- o:
			orders = nil
			continue
		case r := <-o.done:
			rep.Addr, rep.Took, rep.Err = r.addr, r.took, r.err
			return rep, nil
		case <-t.gone:
			return CheckReport{}, t.left()
		case <-ended:
			cause = errEnded
		case <-ctx.Done():
			cause = ctx.Err()
		}
		return CheckReport{}, fmt.Errorf("monitor: %s %s is not checked: %w", t.server.Protocol, t.entry, cause)
	}
}
