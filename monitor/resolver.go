package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	// unusedAfter is how old, in refreshes, the answer for a name that only
	// policies named may be to be given out unasked.
	unusedAfter = 10
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

// A LookupFunc asks for the addresses of a host name, as
// net.Resolver.LookupNetIP does. It must return when ctx ends.
type LookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// ResolverOptions are what a Resolver is made of; all have defaults.
type ResolverOptions struct {
	// Lookup asks DNS. nil: the system's resolver, with /etc/hosts.
	Lookup LookupFunc
	// Refresh is the age at which an answer is asked for anew, give or take a
	// tenth. 0: 30 s.
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

	configured []*name
	known      map[string]*name // of configured, as written and in lower case; immutable

	mu      sync.Mutex
	found   map[string]*name // named by policies alone
	pending []*name          // to be asked for; each has a flight

	wake  chan struct{} // capacity 1: pending has something
	done  chan struct{} // closed when Run ends
	began atomic.Bool
}

var _ proxy.Names = (*Resolver)(nil)

// A name is a host name and what DNS said last. A trailing dot is part of it:
// with it the name is absolute, without it DNS's search list applies.
type name struct {
	host       string // in lower case
	configured bool
	answer     atomic.Pointer[answer] // never nil; the zero answer before the first
	flight     chan struct{}          // under Resolver.mu: closed when the question that is under way ends
}

// An answer is immutable.
type answer struct {
	addr netip.Addr // the last good one; invalid: none ever
	at   time.Time  // of the last question
	next time.Time  // when to ask again
	err  error      // of the last question
}

// NewResolver makes a Resolver for the host names among hosts and starts
// nothing. Addresses among them need no resolving and are skipped.
func NewResolver(hosts []string, opt ResolverOptions) (*Resolver, error) {
	if opt.Lookup == nil {
		opt.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
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
		known: map[string]*name{},
		found: map[string]*name{},
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	var faults []error
	if opt.Refresh < 0 || opt.Timeout < 0 || opt.MaxNames < 0 {
		faults = append(faults, errors.New("monitor: resolver: a bound is less than zero"))
	}
	for _, host := range hosts {
		if !proxy.ValidHost(host) {
			faults = append(faults, fmt.Errorf("monitor: resolver: %.80q is no host name and no address", host))
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		key := strings.ToLower(host)
		n := r.known[key]
		if n == nil {
			n = newName(key)
			n.configured = true
			r.configured = append(r.configured, n)
			r.known[key] = n
		}
		r.known[host] = n
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
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

// adopt takes over what old knows: a reload while DNS fails must not forget.
func (r *Resolver) adopt(old *Resolver) {
	old.mu.Lock()
	defer old.mu.Unlock()
	take := func(o *name) {
		n := r.known[o.host]
		if n == nil {
			if len(r.found) >= r.opt.MaxNames {
				return
			}
			n = newName(o.host)
			r.found[o.host] = n
		}
		n.answer.Store(o.answer.Load())
	}
	for _, o := range old.configured {
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
	tick := time.NewTicker(max(r.opt.Refresh/30, time.Millisecond))
	defer tick.Stop()
	r.askDue(time.Now())
	for {
		select {
		case <-ctx.Done():
			return queries.Wait()
		case now := <-tick.C:
			r.askDue(now)
		case <-r.wake:
		}
		for n := r.nextPending(); n != nil && ctx.Err() == nil; n = r.nextPending() {
			queries.Go(func() error {
				r.query(ctx, n)
				return nil
			})
		}
	}
}

// askDue asks for every configured name whose answer is old.
func (r *Resolver) askDue(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.configured {
		if !now.Before(n.answer.Load().next) {
			r.ask(n)
		}
	}
}

// ask makes sure that a question for n is under way, one for all who want it,
// and returns what is closed at its end. The caller holds r.mu.
func (r *Resolver) ask(n *name) <-chan struct{} {
	if n.flight == nil {
		n.flight = make(chan struct{})
		r.pending = append(r.pending, n)
		select {
		case r.wake <- struct{}{}:
		default: // Run has yet to look, and will see this too
		}
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
	addrs, err := r.opt.Lookup(qctx, n.host)
	cancel()
	if ctx.Err() != nil {
		return // cut off by the end of Run, which says nothing of DNS
	}
	old := n.answer.Load()
	now := time.Now()
	a := &answer{addr: old.addr, at: now, next: now.Add(jitter(r.opt.Refresh)), err: err}
	if err == nil {
		if addr := choose(addrs, old.addr); addr.IsValid() {
			a.addr = addr
		} else {
			a.err = errNoAddress
		}
	}
	if n.configured {
		r.logChange(n, old, a)
	}
	n.answer.Store(a)
	r.mu.Lock()
	close(n.flight)
	n.flight = nil
	r.mu.Unlock()
}

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
	n := r.known[host]
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
	n := r.known[key]
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
	case n.configured:
		return n, nil, nil
	case now.Before(a.at.Add(unusedAfter * r.opt.Refresh)):
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
