package nginx

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxHolds bounds the logins that are counted as held at one time.
const maxHolds = 100_000

// holds remembers since when a login is held. Each WAIT comes back as a new
// connection, so it goes by user and client address; nginx goes on asking after
// the client has left, so a hold needs an end.
type holds struct {
	limit time.Duration
	mu    sync.Mutex
	since map[holdKey]time.Time
	some  atomic.Int64 // len(since)
}

type holdKey struct {
	user   string
	client netip.Addr
}

// begin notes that the login is held, and reports whether it may wait longer.
func (h *holds) begin(user string, client netip.Addr, now time.Time) (left time.Duration, ok bool) {
	k := holdKey{user, client}
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.some.Store(int64(len(h.since))) }()
	since, known := h.since[k]
	// A hold that nobody came back for is over.
	if known && now.Sub(since) > 2*h.limit {
		known = false
	}
	if !known {
		if len(h.since) >= maxHolds && !h.sweep(now) {
			return 0, false
		}
		h.since[k], since = now, now
	}
	left = h.limit - now.Sub(since)
	if left <= 0 {
		delete(h.since, k)
		return 0, false
	}
	return left, true
}

// end forgets a login that is not held any more. Nearly always no login is
// held at all, and then it takes no lock.
func (h *holds) end(user string, client netip.Addr) {
	if h.some.Load() == 0 {
		return
	}
	h.mu.Lock()
	delete(h.since, holdKey{user, client})
	h.some.Store(int64(len(h.since)))
	h.mu.Unlock()
}

// sweep drops holds that nobody came back for. h.mu is held.
func (h *holds) sweep(now time.Time) bool {
	n := len(h.since)
	for k, since := range h.since {
		if now.Sub(since) > 2*h.limit {
			delete(h.since, k)
		}
	}
	return len(h.since) < n
}
