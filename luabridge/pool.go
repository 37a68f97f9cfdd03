package luabridge

import (
	"context"
	"errors"
	"time"

	"usher/proxy"
)

// acquire takes a state from the pool, or waits for one until the request's
// deadline.
func (d *Director) acquire(ctx context.Context, end time.Time) (*state, error) {
	var s *state
	select {
	case s = <-d.pool:
	default:
		t := time.NewTimer(time.Until(end))
		defer t.Stop()
		select {
		case s = <-d.pool:
		case <-t.C:
			return nil, &proxy.PolicyFault{Kind: proxy.PolicyTimeout, Err: errors.New("policy: all Lua states are busy (director.pool_size)")}
		case <-ctx.Done():
			return nil, &proxy.PolicyFault{Kind: proxy.PolicyTimeout, Err: ctx.Err()}
		}
	}
	if s == nil {
		s = newState(d)
	}
	return s, nil
}

// release gives a state back. One that failed is thrown away: nobody knows what
// the script left half-done.
func (d *Director) release(s *state, good bool) {
	if !good {
		s.L.Close()
		s = nil
	} else {
		s.L.SetTop(0)
		for _, r := range s.requests {
			r.Clear()
		}
		s.call, s.context = nil, nil // nothing of the request waits in the pool
		s.budget.Stop()
	}
	d.pool <- s
}
