package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// ExpanderOptions are what an Expander is made of; all have defaults.
type ExpanderOptions struct {
	// Lookup asks DNS. nil: the system's resolver.
	Lookup SRVLookupFunc
	// Servers and Refresh are as in ResolverOptions.
	Servers []string
	Refresh time.Duration
	// Timeout bounds one question. 0: 5 s.
	Timeout time.Duration
	// Logger gets a line when a name stops or starts to have an answer, when its
	// backends change, and when other records of it are left out. nil: none.
	Logger *zap.Logger
	// Previous is the Expander that this one replaces at a reload: its answers are
	// taken over.
	Previous *Expander
	// OnChange is called by Run, with what Servers returns, when that changed, and
	// once when Complete becomes true. nil: nobody.
	OnChange func(servers []*proxy.Server)
}

// An Expander turns the entries of an inventory that have an SRV name instead of
// host and port into backends, and follows DNS. The last good answer stands while
// DNS fails, is empty, or says that there is no such service. All methods may be
// called by many goroutines at once.
type Expander struct {
	opt       ExpanderOptions
	log       *zap.Logger
	inventory []*proxy.Server
	names     []*srvName
	expanded  expansion // Run's

	servers  atomic.Pointer[[]*proxy.Server]
	complete atomic.Bool
	began    atomic.Bool
}

// A srvName is an SRV name and what DNS said last.
type srvName struct {
	name   string // in lower case; as with host names a trailing dot is part of it
	answer atomic.Pointer[srvAnswer]

	// Run's:
	next  time.Time
	asked bool // a question is under way
}

// A srvAnswer is immutable. The zero answer is that before the first.
type srvAnswer struct {
	records []record // of the last good one; none: none ever
	dropped string   // what of it was left out, and why
	asked   bool
	err     error // of the last question
}

var (
	errNoRecord  = errors.New("the answer has no usable record")
	errNoService = errors.New("the answer says that there is no such service")
)

// NewExpander makes an Expander of an inventory, in the configuration's order, and
// starts nothing. Until Run hears from DNS, and without Previous, templates
// (entries with SRV and no host) have no backends.
func NewExpander(inventory []*proxy.Server, opt ExpanderOptions) (*Expander, error) {
	if opt.Lookup == nil {
		opt.Lookup = nameServers(opt.Servers).records
	}
	if opt.Refresh == 0 {
		opt.Refresh = 30 * time.Second
	}
	if opt.Timeout == 0 {
		opt.Timeout = 5 * time.Second
	}
	if opt.Logger == nil {
		opt.Logger = zap.NewNop()
	}
	if opt.OnChange == nil {
		opt.OnChange = func([]*proxy.Server) {}
	}
	e := &Expander{opt: opt, log: opt.Logger.Named("srv"), inventory: inventory}
	faults := nameServers(opt.Servers).faults()
	if opt.Refresh < 0 || opt.Timeout < 0 {
		faults = append(faults, errors.New("monitor: srv: a bound is less than zero"))
	}
	for i, s := range inventory {
		switch {
		case s == nil:
			faults = append(faults, fmt.Errorf("monitor: backend %d is nil", i+1))
		case isTemplate(s) && !proxy.ValidHost(s.SRV):
			faults = append(faults, fmt.Errorf("monitor: backend %d: %.80q is no SRV name", i+1, s.SRV))
		case isTemplate(s) && e.index(s.SRV) < 0:
			n := &srvName{name: strings.ToLower(s.SRV)}
			n.answer.Store(&srvAnswer{})
			e.names = append(e.names, n)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if opt.Previous != nil {
		for _, o := range opt.Previous.names {
			if i := e.index(o.name); i >= 0 {
				e.names[i].answer.Store(o.answer.Load())
			}
		}
	}
	e.opt.Previous = nil // or every reload would keep all Expanders before it
	e.expand()
	e.complete.Store(e.allAsked())
	return e, nil
}

// isTemplate: s stands for the backends that DNS names.
func isTemplate(s *proxy.Server) bool { return s.SRV != "" && s.Host == "" && s.Port == 0 }

// index returns where an SRV name, in any case, is among the names; -1: nowhere.
func (e *Expander) index(srv string) int {
	key := strings.ToLower(srv)
	return slices.IndexFunc(e.names, func(n *srvName) bool { return n.name == key })
}

// recordsOf returns the records of the last good answer for an entry's SRV name.
func (e *Expander) recordsOf(srv string) []record {
	return e.names[e.index(srv)].answer.Load().records
}

func (e *Expander) allAsked() bool {
	return !slices.ContainsFunc(e.names, func(n *srvName) bool { return !n.answer.Load().asked })
}

// Servers returns the inventory as it is now, in the configuration's order, the
// backends of a name where its entry stands. A backend that stays as it was keeps
// its pointer. The slice is shared: read it only.
func (e *Expander) Servers() []*proxy.Server { return *e.servers.Load() }

// Complete reports whether DNS was asked for each name once, with success or
// without, by this Expander or Previous.
func (e *Expander) Complete() bool { return e.complete.Load() }

// Run asks DNS until ctx ends, waits for all that it started and returns nil. It
// can be called once; a second call returns an error.
func (e *Expander) Run(ctx context.Context) error {
	if e.began.Swap(true) {
		return errors.New("monitor: srv: Run was called before")
	}
	type result struct {
		n   *srvName
		a   *srvAnswer
		ttl time.Duration
	}
	results := make(chan result)
	running := 0
	queue := slices.Clone(e.names)
	var queries sync.WaitGroup
	defer queries.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case r := <-results:
			running--
			r.n.asked = false
			r.n.next = time.Now().Add(untilNext(r.ttl, e.opt.Refresh, r.a.err != nil))
			e.take(r.n, r.a)
		}
		now := time.Now()
		wait := maxTTL
		slices.SortFunc(queue, func(a, b *srvName) int { return a.next.Compare(b.next) }) // or the last would never have their turn
		for _, n := range queue {
			switch {
			case n.asked: // its result wakes
			case now.Before(n.next):
				wait = min(wait, n.next.Sub(now))
			case running < maxQueries: // else the next result wakes
				running++
				n.asked = true
				queries.Go(func() {
					a, ttl := e.query(ctx, n)
					if ctx.Err() != nil {
						return // cut off by the end of Run, which says nothing of DNS
					}
					select {
					case results <- result{n, a, ttl}:
					case <-ctx.Done():
					}
				})
			}
		}
		timer.Reset(wait)
	}
}

// query asks DNS once.
func (e *Expander) query(ctx context.Context, n *srvName) (*srvAnswer, time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, e.opt.Timeout)
	defer cancel()
	answer, ttl, err := e.opt.Lookup(ctx, n.name)
	a := &srvAnswer{asked: true}
	if len(answer) == 0 && err != nil {
		a.err = err
		return a, ttl
	}
	var drops []string
	a.records, drops = usable(answer)
	if len(a.records) == 0 {
		a.err = errNoRecord
		if noService(answer) {
			a.err = errNoService
		}
		return a, ttl
	}
	if err != nil { // records were left out by the resolver
		drops = append(drops, err.Error())
	}
	a.dropped = some(drops)
	return a, ttl
}

// noService: one record whose target is the root says that the service is
// decidedly not there (RFC 2782).
func noService(answer []*net.SRV) bool {
	return len(answer) == 1 && answer[0] != nil && answer[0].Target == "."
}

// take takes in what DNS said of n.
func (e *Expander) take(n *srvName, a *srvAnswer) {
	old := n.answer.Load()
	if a.err != nil {
		a.records, a.dropped = old.records, old.dropped
	}
	n.answer.Store(a)
	e.logAnswer(n, old, a)
	changed := !slices.Equal(a.records, old.records) && e.expand()
	if !e.complete.Load() && e.allAsked() {
		e.complete.Store(true)
		changed = true
	}
	if changed {
		e.opt.OnChange(e.Servers())
	}
}

// expand makes the servers anew, and reports whether they differ.
func (e *Expander) expand() bool {
	next := expand(e.inventory, e.recordsOf, e.expanded)
	old := e.expanded.servers
	e.expanded = next
	e.servers.Store(&next.servers)
	return !slices.Equal(next.servers, old)
}

func (e *Expander) logAnswer(n *srvName, old, a *srvAnswer) {
	log := e.log.With(zap.String("srv", n.name))
	switch {
	case a.err != nil && old.err == nil && len(a.records) > 0:
		log.Warn("SRV name has no answer, its last backends stand", zap.Int("records", len(a.records)), zap.Error(a.err))
	case a.err != nil && old.err == nil:
		log.Warn("SRV name has no answer", zap.Error(a.err))
	case a.err == nil && old.err != nil:
		log.Info("SRV name has an answer again", zap.Int("records", len(a.records)))
	}
	if a.dropped != old.dropped && a.dropped != "" {
		log.Warn("records of the SRV name are left out", zap.String("records", a.dropped))
	}
	if len(old.records) > 0 && !slices.Equal(a.records, old.records) {
		log.Info("SRV name has other records", zap.String("new", some(without(a.records, old.records))), zap.String("gone", some(without(old.records, a.records))))
	}
}
