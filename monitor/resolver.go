package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"usher/proxy"
)

const (
	// maxQueries bounds the questions that run at the same moment.
	maxQueries = 128
	// negativeFor is how long "no answer" is an answer.
	negativeFor = time.Second
	// unusedAfter is how old, in TTLs or refreshes, the answer for a name that
	// only policies named may be to be given out unasked.
	unusedAfter = 10
	// askGap is the least time between two looks at who is due, so that 2,000
	// names with a TTL of a second share them. A question is late by that.
	askGap = 20 * time.Millisecond
)

var (
	errNoAddress = errors.New("the answer has no usable address")
	errStopped   = errors.New("the resolver is stopped")
	errTooMany   = errors.New("too many names are being resolved")
)

// A lookupError says which name has no address, and why.
type lookupError struct {
	host  string
	cause error
}

// Error implements error.
func (e *lookupError) Error() string {
	return fmt.Sprintf("monitor: resolve %.260q: %v", e.host, e.cause)
}

// Unwrap returns the cause.
func (e *lookupError) Unwrap() error { return e.cause }

// ResolverOptions are what a Resolver is made of; all have defaults.
type ResolverOptions struct {
	// Lookup asks DNS. nil: the system's resolver, with /etc/hosts.
	Lookup LookupFunc
	// Servers are the name servers, each ip:port, that are asked in that order
	// where Lookup is nil. None: those of /etc/resolv.conf.
	Servers []string
	// Refresh is the age at which an answer without a TTL is asked for anew, give
	// or take a tenth; others are at their TTL, if that is between a second and an
	// hour. What failed is asked again after Refresh, at most 5 s. 0: 30 s.
	Refresh time.Duration
	// Timeout bounds one question. 0: 5 s.
	Timeout time.Duration
	// MaxNames bounds the memory for names that only policies named. 0: 10,000.
	MaxNames int
	// Logger gets a line when a configured name stops or starts to resolve. nil:
	// none.
	Logger *zap.Logger
	// Previous is the Resolver that this one replaces at a reload: its answers
	// are taken over.
	Previous *Resolver
}

// A Resolver keeps the addresses of host names in memory. Configured names are
// asked for in the background; others, which policies named, when they are
// looked up. The last good answer stands while DNS fails. It implements
// proxy.Names. All methods may be called by many goroutines at once.
type Resolver struct {
	opt ResolverOptions
	log *zap.Logger

	configured atomic.Pointer[hosts] // replaced under mu

	mu      sync.Mutex
	found   map[string]*name // named by policies alone
	pending []*name          // to be asked for; each has a flight
	due     time.Time        // when the first configured name is to be asked for

	wake  chan struct{} // capacity 1: pending has something, or due is sooner
	done  chan struct{} // closed when Run ends
	began atomic.Bool
}

var _ proxy.Names = (*Resolver)(nil)

// hosts are the configured names; immutable.
type hosts struct {
	list  []*name
	known map[string]*name // as written and in lower case
}

// A name is a host name and what DNS said last. A trailing dot is part of it:
// with it the name is absolute, without it DNS's search list applies.
type name struct {
	host   string                 // in lower case
	answer atomic.Pointer[answer] // never nil; the zero answer before the first
	flight chan struct{}          // under Resolver.mu: closed when the question that is under way ends
}

// An answer is immutable.
type answer struct {
	addr   netip.Addr // the last good one; invalid: none ever
	at     time.Time  // of the last question
	next   time.Time  // when to ask again
	unused time.Time  // when it is too old to be given out unasked, if a policy named it
	err    error      // of the last question
}

// NewResolver makes a Resolver for the host names among names and starts
// nothing. Addresses among them need no resolving and are skipped.
func NewResolver(names []string, opt ResolverOptions) (*Resolver, error) {
	if opt.Lookup == nil {
		opt.Lookup = nameServers(opt.Servers).addresses
	}
	if opt.Refresh == 0 {
		opt.Refresh = 30 * time.Second
	}
	if opt.Timeout == 0 {
		opt.Timeout = 5 * time.Second
	}
	if opt.MaxNames == 0 {
		opt.MaxNames = 10_000
	}
	if opt.Logger == nil {
		opt.Logger = zap.NewNop()
	}
	r := &Resolver{
		opt:   opt,
		log:   opt.Logger.Named("resolver"),
		found: map[string]*name{},
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	var faults []error
	if opt.Refresh < 0 || opt.Timeout < 0 || opt.MaxNames < 0 {
		faults = append(faults, errors.New("monitor: resolver: a bound is less than zero"))
	}
	faults = append(faults, nameServers(opt.Servers).faults()...)
	for _, host := range names {
		if !proxy.ValidHost(host) {
			faults = append(faults, fmt.Errorf("monitor: resolver: %.80q is no host name and no address", host))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	r.SetHosts(names)
	if opt.Previous != nil {
		r.adopt(opt.Previous)
	}
	r.opt.Previous = nil // or every reload would keep all Resolvers before it
	return r, nil
}

func newName(host string) *name {
	n := &name{host: host}
	n.answer.Store(&answer{})
	return n
}

// SetHosts makes the host names among names the configured ones, also while Run
// runs. Addresses, and what is no host name, are skipped. Names that stay, or that
// a policy named before, keep their answers; those that go are as if a policy had
// named them.
func (r *Resolver) SetHosts(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.configured.Load()
	if old == nil {
		old = &hosts{}
	}
	next := &hosts{known: make(map[string]*name, len(names))}
	for _, host := range names {
		if _, err := netip.ParseAddr(host); err == nil || !proxy.ValidHost(host) {
			continue
		}
		key := strings.ToLower(host)
		n := next.known[key]
		if n == nil {
			n = cmp.Or(old.known[key], r.found[key])
			if n == nil {
				n = newName(key)
			}
			delete(r.found, key)
			next.list = append(next.list, n)
			next.known[key] = n
		}
		next.known[host] = n
	}
	for _, n := range old.list {
		if next.known[n.host] == nil && (len(r.found) < r.opt.MaxNames || r.evict()) {
			r.found[n.host] = n
		}
	}
	r.configured.Store(next)
	r.plan(time.Now())
}

// adopt takes over what old knows: a reload while DNS fails must not forget.
func (r *Resolver) adopt(old *Resolver) {
	old.mu.Lock()
	defer old.mu.Unlock()
	take := func(o *name) {
		n := r.configured.Load().known[o.host]
		if n == nil {
			if len(r.found) >= r.opt.MaxNames {
				return
			}
			n = newName(o.host)
			r.found[o.host] = n
		}
		n.answer.Store(o.answer.Load())
	}
	for _, o := range old.configured.Load().list {
		take(o)
	}
	for _, o := range old.found {
		take(o)
	}
}

// Run resolves until ctx ends, waits for all that it started and returns nil.
// It can be called once; a second call returns an error.
func (r *Resolver) Run(ctx context.Context) error {
	if r.began.Swap(true) {
		return errors.New("monitor: resolver: Run was called before")
	}
	defer close(r.done)
	var queries errgroup.Group
	queries.SetLimit(maxQueries)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var looked time.Time
	for {
		select {
		case <-ctx.Done():
			return queries.Wait()
		case <-timer.C:
			looked = time.Now()
			r.askDue(looked)
		case <-r.wake:
		}
		for n := r.nextPending(); n != nil && ctx.Err() == nil; n = r.nextPending() {
			queries.Go(func() error {
				r.query(ctx, n)
				return nil
			})
		}
		r.mu.Lock()
		wait := time.Until(r.due)
		r.mu.Unlock()
		timer.Reset(max(wait, askGap-time.Since(looked)))
	}
}

// plan sees to it that Run looks at who is due at that time, if not before. The
// caller holds r.mu.
func (r *Resolver) plan(at time.Time) {
	if at.Before(r.due) {
		r.due = at
		r.stir()
	}
}

func (r *Resolver) stir() {
	select {
	case r.wake <- struct{}{}:
	default: // Run has yet to look, and will see this too
	}
}

// askDue asks for every configured name whose answer is old.
func (r *Resolver) askDue(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = now.Add(maxTTL)
	for _, n := range r.configured.Load().list {
		if n.flight != nil {
			continue // its end plans
		}
		next := n.answer.Load().next
		if !now.Before(next) {
			r.ask(n)
		} else if next.Before(r.due) {
			r.due = next
		}
	}
}

// ask makes sure that a question for n is under way, one for all who want it,
// and returns what is closed at its end. The caller holds r.mu.
func (r *Resolver) ask(n *name) <-chan struct{} {
	if n.flight == nil {
		n.flight = make(chan struct{})
		r.pending = append(r.pending, n)
		r.stir()
	}
	return n.flight
}

func (r *Resolver) nextPending() *name {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		r.pending = nil
		return nil
	}
	n := r.pending[0]
	r.pending = r.pending[1:]
	return n
}

// query asks DNS once and keeps the answer.
func (r *Resolver) query(ctx context.Context, n *name) {
	qctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	addrs, ttl, err := r.opt.Lookup(qctx, n.host)
	cancel()
	if ctx.Err() != nil {
		return // cut off by the end of Run, which says nothing of DNS
	}
	old := n.answer.Load()
	now := time.Now()
	a := &answer{addr: old.addr, at: now, err: err}
	if err == nil {
		if addr := choose(addrs, old.addr); addr.IsValid() {
			a.addr = addr
		} else {
			a.err = errNoAddress
		}
	}
	wait := untilNext(ttl, r.opt.Refresh, a.err != nil)
	a.next = now.Add(wait)
	a.unused = now.Add(unusedAfter * wait)
	if a.err != nil {
		a.unused = now.Add(unusedAfter * r.opt.Refresh)
	}
	if r.isConfigured(n) {
		r.logChange(n, old, a)
	}
	n.answer.Store(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	close(n.flight)
	n.flight = nil
	if r.isConfigured(n) {
		r.plan(a.next)
	}
}

func (r *Resolver) isConfigured(n *name) bool { return r.configured.Load().known[n.host] == n }

func (r *Resolver) logChange(n *name, old, a *answer) {
	switch {
	case a.err != nil && old.err == nil && a.addr.IsValid():
		r.log.Warn("name does not resolve, its last address stands", zap.String("host", n.host), zap.Stringer("addr", a.addr), zap.Error(a.err))
	case a.err != nil && old.err == nil:
		r.log.Warn("name does not resolve", zap.String("host", n.host), zap.Error(a.err))
	case a.err == nil && old.err != nil:
		r.log.Info("name resolves again", zap.String("host", n.host), zap.Stringer("addr", a.addr))
	case a.addr != old.addr && old.addr.IsValid():
		r.log.Info("name has another address", zap.String("host", n.host), zap.Stringer("addr", a.addr), zap.Stringer("old", old.addr))
	}
}

// Lookup returns the address of host. Addresses answer themselves. Configured
// names that ever resolved are answered from memory, without a lock; others wait
// for DNS, as long as ctx allows, unless they are in memory. Run must be
// running, or what is not in memory is not found.
func (r *Resolver) Lookup(ctx context.Context, host string) (netip.Addr, error) {
	n := r.configured.Load().known[host]
	if n != nil {
		if a := n.answer.Load(); a.addr.IsValid() {
			return a.addr, nil
		}
	} else if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" || addr.IsUnspecified() {
			return netip.Addr{}, &lookupError{host, errors.New("no address that a backend can have")}
		}
		return addr.Unmap(), nil
	}
	addr, err := r.await(ctx, host)
	if err != nil {
		return netip.Addr{}, &lookupError{host, err}
	}
	return addr, nil
}

// await answers from memory if it can, and else asks and waits.
func (r *Resolver) await(ctx context.Context, host string) (netip.Addr, error) {
	if !proxy.ValidHost(host) {
		return netip.Addr{}, errors.New("not a host name")
	}
	n, flight, err := r.join(strings.ToLower(host))
	if err != nil {
		return netip.Addr{}, err
	}
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.done:
			err = errStopped
		}
	}
	a := n.answer.Load()
	if a.addr.IsValid() {
		return a.addr, nil
	}
	if err == nil {
		err = a.err
	}
	return netip.Addr{}, err
}

// join returns the name of that key, and, if its present answer will not do, what
// is closed when there is a new one.
func (r *Resolver) join(key string) (*name, <-chan struct{}, error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.configured.Load().known[key]
	configured := n != nil
	if n == nil {
		n = r.found[key]
	}
	if n == nil {
		if len(r.found) >= r.opt.MaxNames && !r.evict() {
			return nil, nil, errTooMany
		}
		n = newName(key)
		r.found[key] = n
	}
	a := n.answer.Load()
	switch {
	case !a.addr.IsValid():
		if a.err != nil && now.Before(a.at.Add(negativeFor)) {
			return n, nil, nil
		}
	case configured:
		return n, nil, nil
	case now.Before(a.unused):
		if !now.Before(a.next) {
			r.ask(n)
		}
		return n, nil, nil
	}
	return n, r.ask(n), nil
}

// evict forgets one name, whichever comes first in Go's random order of maps.
// Names that somebody waits for stay.
func (r *Resolver) evict() bool {
	for key, n := range r.found {
		if n.flight == nil {
			delete(r.found, key)
			return true
		}
	}
	return false
}

// choose picks one of the addresses of an answer: the present one while it is
// among them; else the lowest of the family that stands first, which is the one
// that this machine reaches best (RFC 6724). So the order in which DNS turns
// them does not matter, and all nodes choose alike. Addresses that no backend
// can have do not count. Invalid: there is none.
func choose(addrs []netip.Addr, present netip.Addr) netip.Addr {
	var best netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			continue
		}
		if a == present {
			return a
		}
		if !best.IsValid() || (a.Is4() == best.Is4() && a.Less(best)) {
			best = a
		}
	}
	return best
}
