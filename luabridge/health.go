package luabridge

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	window     = 100 // requests that a policy is judged by
	tooMany    = window / 2
	warnsEvery = time.Minute
)

// A health is how a policy fared on its last requests. One that fails on more
// than half of them is said to be failing, in a metric and once a minute in the
// log. While none of them failed, another success costs no lock.
type health struct {
	policy   string
	log      *zap.Logger
	observer Observer

	failures atomic.Int32 // among the last requests

	mu      sync.Mutex
	ring    [(window + 63) / 64]uint64 // a bit for each that failed
	next    int
	failing bool
	warned  time.Time
}

// ran notes the end of a run, and reports whether the policy is failing.
func (h *health) ran(err error) (failing bool) {
	if err == nil && h.failures.Load() == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	word, bit := h.next/64, uint64(1)<<(h.next%64)
	h.next = (h.next + 1) % window
	h.ring[word] &^= bit
	if err != nil {
		h.ring[word] |= bit
	}
	n := 0
	for _, w := range h.ring {
		n += bits.OnesCount64(w)
	}
	h.failures.Store(int32(n)) //nolint:gosec // at most window
	switch {
	case n > tooMany && (!h.failing || err != nil && time.Since(h.warned) >= warnsEvery):
		if !h.failing {
			h.failing = true
			h.report(true)
		}
		h.warned = time.Now()
		h.log.Warn("policy is failing", zap.String("script", h.policy),
			zap.Int("failed", n), zap.Int("of_last", window), zap.Error(err))
	case h.failing && n <= tooMany:
		h.failing = false
		h.report(false)
		h.log.Info("policy is no longer failing", zap.String("script", h.policy),
			zap.Int("failed", n), zap.Int("of_last", window))
	}
	return h.failing
}

func (h *health) report(failing bool) {
	if h.observer != nil {
		h.observer.PolicyFailing(h.policy, failing)
	}
}
