package control

import (
	"sync/atomic"
	"time"

	"usher/proxy"
)

// rateSeconds is the time that a rate is taken over: the last whole seconds.
const rateSeconds = 10

// rates count decisions for backends. Counting takes no lock and no memory.
type rates struct {
	byBackend atomic.Pointer[map[rateKey]*rate]
}

type rateKey struct {
	protocol, host string
	port           int
}

// A rate has a slot a second, its time in the upper half of the word and what was
// counted in it in the lower.
type rate [16]atomic.Uint64

func keyOf(s *proxy.Server) rateKey { return rateKey{s.Protocol, s.Host, s.Port} }

// set makes these the backends that are counted for; what others have stays.
func (r *rates) set(entries []proxy.Entry) {
	next := make(map[rateKey]*rate, len(entries))
	old := r.byBackend.Load()
	for i := range entries {
		k := keyOf(entries[i].Server)
		if old != nil && (*old)[k] != nil {
			next[k] = (*old)[k]
		} else {
			next[k] = &rate{}
		}
	}
	r.byBackend.Store(&next)
}

func (r *rates) find(s *proxy.Server) *rate {
	m := r.byBackend.Load()
	if m == nil {
		return nil
	}
	return (*m)[keyOf(s)]
}

func (r *rates) count(s *proxy.Server) {
	if x := r.find(s); x != nil {
		x.add(time.Now().Unix())
	}
}

func (r *rates) of(s *proxy.Server) float64 {
	if x := r.find(s); x != nil {
		return x.perSecond(time.Now().Unix())
	}
	return 0
}

func (r *rate) add(second int64) {
	slot := &r[second%int64(len(r))]
	for {
		v := slot.Load()
		next := v + 1
		if uint32(v>>32) != uint32(second) {
			next = uint64(uint32(second))<<32 | 1
		}
		if slot.CompareAndSwap(v, next) {
			return
		}
	}
}

func (r *rate) perSecond(second int64) float64 {
	sum := 0
	for s := second - rateSeconds; s < second; s++ {
		if v := r[s%int64(len(r))].Load(); uint32(v>>32) == uint32(s) {
			sum += int(uint32(v))
		}
	}
	return float64(sum) / rateSeconds
}
