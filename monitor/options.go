package monitor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// defaultMaxConcurrent bounds the sockets of an inventory whose backends all
// hang; below that every backend has its own slot.
const defaultMaxConcurrent = 1024

// A DialFunc opens a connection, as net.Dialer.DialContext does. It must
// return when ctx ends. The address is always an IP address with a port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// An Observer is told what checks find out, for metrics. It must not block: a
// slow one delays the checks and the snapshot.
type Observer interface {
	// CheckDone is called after each check, by many goroutines at once. The
	// error's text is made for an operator.
	CheckDone(s *proxy.Server, took time.Duration, err error)
	// Transition is called when the published health of a backend changed, in
	// order, by one goroutine at a time, after View shows it. What Previous
	// hands over is no transition.
	Transition(s *proxy.Server, from, to proxy.Health)
	// Panic is called when the last good set of a protocol begins or ceases to be
	// kept; see Options.PanicThreshold.
	Panic(protocol string, on bool)
}

// Options are what a Monitor is made of.
type Options struct {
	// Servers is the inventory in the configuration's order. It may be empty.
	Servers []*proxy.Server
	// Partial: more of it is to come by SetServers, which is waited for as for a
	// first check.
	Partial bool
	// Admin keeps what operators ordered. nil: nobody orders anything.
	Admin AdminState

	// Interval is the time from the start of one check of a backend to the
	// start of its next; each is drawn anew within 10 % around it. A result
	// older than three intervals is no result (where Timeout is longer than an
	// interval: older than two and a Timeout).
	Interval time.Duration
	// Retry replaces Interval after a failed check, and until Rise successes
	// were seen. A Retry longer than Interval counts as Interval.
	Retry time.Duration
	// Timeout bounds one check as a whole: name, connection, TLS.
	Timeout time.Duration
	// Rise successes in a row take a backend up, Fall failures in a row down.
	// The first result ever, and the first after a stale one, decides at once.
	Rise, Fall int
	// PanicThreshold is a percentage. When more than that of a protocol's backends
	// that are up, and two at least, fall within one interval by timeouts or errors
	// of the local network, they count as up until less of them fail so. 0: 100,
	// which is never.
	PanicThreshold int
	// MaxConcurrent bounds the checks that run at the same moment, and so the
	// sockets. Others wait for their turn; the wait is not part of Timeout.
	// 0: 1024.
	MaxConcurrent int

	// Names gives the address to dial. A check resolves nothing on its own.
	Names proxy.Names
	// Dial opens connections. nil: a plain net.Dialer.
	Dial DialFunc
	// Roots are the authorities that certificates must come from. nil: the
	// system's.
	Roots *x509.CertPool

	// Logger gets one line a transition. nil: none.
	Logger *zap.Logger
	// Observer may be nil.
	Observer Observer

	// Previous is the Monitor that this one replaces at a reload. Health of
	// backends with the same protocol, host, port and TLS settings is taken
	// over, so that a reload makes nothing unknown.
	Previous *Monitor
}

// validate collects every fault.
func (o *Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("monitor: "+format, args...)) }
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"interval", o.Interval}, {"retry", o.Retry}, {"timeout", o.Timeout}} {
		if d.value <= 0 {
			fault("%s is %s, must be more than zero", d.name, d.value)
		}
	}
	if o.Rise < 1 {
		fault("rise is %d, must be at least 1", o.Rise)
	}
	if o.Fall < 1 {
		fault("fall is %d, must be at least 1", o.Fall)
	}
	if o.PanicThreshold < 0 || o.PanicThreshold > 100 {
		fault("a panic threshold of %d is no percentage", o.PanicThreshold)
	}
	if o.MaxConcurrent < 0 {
		fault("at most %d checks at once is not possible", o.MaxConcurrent)
	}
	if o.Names == nil {
		fault("nothing to resolve names with")
	}
	faults = append(faults, validServers(o.Servers))
	return errors.Join(faults...)
}

// validServers collects every fault of an inventory.
func validServers(servers []*proxy.Server) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("monitor: "+format, args...)) }
	for i, s := range servers {
		switch {
		case s == nil:
			fault("backend %d is nil", i+1)
		case checks[s.Protocol] == nil:
			fault("backend %d: unknown protocol %q", i+1, s.Protocol)
		case !proxy.ValidHost(s.Host):
			fault("backend %d: %.80q is no host name and no address", i+1, s.Host)
		case s.Port < 1 || s.Port > math.MaxUint16:
			fault("backend %d: port %d is outside 1-65535", i+1, s.Port)
		}
	}
	return errors.Join(faults...)
}

// fill sets the defaults.
func (o *Options) fill() {
	o.Retry = min(o.Retry, o.Interval)
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = defaultMaxConcurrent
	}
	if o.PanicThreshold == 0 {
		o.PanicThreshold = 100
	}
	if o.Admin == nil {
		o.Admin = noAdmin{}
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
}

// staleAfter is the age at which a result stops to count.
func (o *Options) staleAfter() time.Duration {
	return max(3*o.Interval, 2*o.Interval+o.Timeout)
}

// panicWindow is the time in which backends that fall for the same reason do so:
// an interval, with its jitter.
func (o *Options) panicWindow() time.Duration { return o.Interval * 5 / 4 }

// doubtFor is how long a silent fall waits for the others at most: for one check
// of theirs.
func (o *Options) doubtFor() time.Duration { return o.Timeout + o.Retry }

// nobody is the Observer of a Monitor that was given none.
type nobody struct{}

func (nobody) CheckDone(*proxy.Server, time.Duration, error)        {}
func (nobody) Transition(*proxy.Server, proxy.Health, proxy.Health) {}
func (nobody) Panic(string, bool)                                   {}
