package monitor

import (
	"net/netip"
	"sync/atomic"
	"time"

	"usher/proxy"
)

// A target is a backend and what its checks found out.
type target struct {
	server         *proxy.Server
	machine, entry string        // that operators' orders name: HOST and HOST:PORT, canonical
	weighted       *proxy.Server // server, with the weight that was ordered last; the publisher's
	*watched
}

// What is watched: what targets have in common that follow each other and are
// checked alike.
type watched struct {
	// state is never nil. Only the target's watcher replaces it.
	state atomic.Pointer[state]
	// seen is the entry of the present view; nil before the first. Only the
	// publisher replaces it.
	seen atomic.Pointer[proxy.Entry]
	// now takes orders to check at once; soon, whose capacity is 1, has the next
	// check come before its time.
	now  chan *checkOrder
	soon chan struct{}
	gone chan struct{} // closed when no target has it any more
}

func newTarget(s *proxy.Server) *target {
	t := &target{server: s, watched: &watched{now: make(chan *checkOrder), soon: make(chan struct{}, 1), gone: make(chan struct{})}}
	t.machine = proxy.CanonicalHost(s.Host)
	t.entry = proxy.HostPort(t.machine, s.Port)
	st := &state{}
	if a, err := netip.ParseAddr(s.Host); err == nil {
		st.addr = a.Unmap()
	}
	t.state.Store(st)
	return t
}

// A state is what is known of a backend after a check. It is immutable. The
// zero state is that of a backend never checked.
type state struct {
	health proxy.Health // Unknown, Up or Down; Stale is a matter of the reader's clock
	since  time.Time    // of health
	streak int          // results in a row that contradict health
	failed bool         // the last check failed
	// silent is not zero when it was up, and all checks that failed since then did
	// so as a broken local network makes it: the end of the first of these, or of
	// the first after one that succeeded.
	silent    time.Time
	checkedAt time.Time // end of the last check
	took      time.Duration
	lastError string     // of the last failed check
	addr      netip.Addr // that the last check went to; kept while the name does not resolve
}

// A result is what one check came to.
type result struct {
	at   time.Time // when it ended
	took time.Duration
	addr netip.Addr // invalid: the name did not resolve
	err  error
}

// A rule says how results become health.
type rule struct {
	rise, fall int
	staleAfter time.Duration
}

// next returns the state after r.
func (s *state) next(r result, by rule) *state {
	n := *s
	n.checkedAt, n.took, n.failed = r.at, r.took, r.err != nil
	if r.addr.IsValid() {
		n.addr = r.addr
	}
	was, _ := s.healthAt(r.at, by)
	found, need := proxy.Up, by.rise
	if r.err != nil {
		found, need = proxy.Down, by.fall
		n.lastError = r.err.Error()
		switch {
		case !isSilence(r.err):
			n.silent = time.Time{}
		case was == proxy.Up && s.streak == 0, s.fellSilent() && !s.failed:
			n.silent = r.at
		}
	}
	switch {
	case was == proxy.Unknown || was == proxy.Stale:
		n.health, n.since, n.streak = found, r.at, 0
	case was == found:
		n.streak = 0
	default:
		if n.streak++; n.streak >= need {
			n.health, n.since, n.streak = found, r.at, 0
		}
	}
	if n.health == proxy.Up && n.streak == 0 {
		n.silent = time.Time{}
	}
	return &n
}

// healthAt returns the health at now, and since when it is so.
func (s *state) healthAt(now time.Time, by rule) (proxy.Health, time.Time) {
	if s.health == proxy.Unknown {
		return proxy.Unknown, s.since
	}
	if end := s.checkedAt.Add(by.staleAfter); !now.Before(end) {
		return proxy.Stale, end
	}
	return s.health, s.since
}

// unsettled reports whether the next check shall come soon: the last one
// failed, or a recovery is not yet believed.
func (s *state) unsettled() bool { return s.failed || s.streak > 0 }

// An identity is what makes a backend the same one after a reload.
type identity struct {
	protocol, host            string
	port                      int
	tls, startTLS, skipVerify bool
}

func identify(s *proxy.Server) identity {
	return identity{s.Protocol, proxy.CanonicalHost(s.Host), s.Port, s.TLS, s.StartTLS, s.TLSSkipVerify}
}
