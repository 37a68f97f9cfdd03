package monitor

import (
	"net/netip"
	"sync/atomic"
	"time"

	"usher/proxy"
)

// A target is a backend and what its checks found out.
type target struct {
	server *proxy.Server
	index  int // in the inventory
	// state is never nil. Only the target's watcher replaces it.
	state atomic.Pointer[state]
}

// A state is what is known of a backend after a check. It is immutable. The
// zero state is that of a backend never checked.
type state struct {
	health    proxy.Health // Unknown, Up or Down; Stale is a matter of the reader's clock
	since     time.Time    // of health
	streak    int          // results in a row that contradict health
	failed    bool         // the last check failed
	checkedAt time.Time    // end of the last check
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
	found, need := proxy.Up, by.rise
	if r.err != nil {
		found, need = proxy.Down, by.fall
		n.lastError = r.err.Error()
	}
	was, _ := s.healthAt(r.at, by)
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

// entry is the target's public face at now.
func (t *target) entry(now time.Time, by rule) proxy.Entry {
	s := t.state.Load()
	e := proxy.Entry{
		Server:    t.server,
		Addr:      s.addr,
		CheckedAt: s.checkedAt,
		CheckTook: s.took,
		LastError: s.lastError,
	}
	e.Health, e.Since = s.healthAt(now, by)
	return e
}

// An identity is what makes a backend the same one after a reload.
type identity struct {
	protocol, host            string
	port                      int
	tls, startTLS, skipVerify bool
}

func identify(s *proxy.Server) identity {
	return identity{s.Protocol, proxy.CanonicalHost(s.Host), s.Port, s.TLS, s.StartTLS, s.TLSSkipVerify}
}
