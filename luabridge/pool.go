package luabridge

import (
	"context"
	"errors"
	"time"

	"usher/luabridge/modules"
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

// release gives a state back. One that failed is thrown away, since nobody knows
// what the script left half-done; whose request it was makes the next one, and
// nobody else waits for that.
func (d *Director) release(s *state, good bool) {
	if !good {
		s.L.Close()
		s = newState(d)
	} else {
		s.L.SetTop(0)
		for _, l := range s.loaded {
			l.chunk.Env = nil
			l.requests.Clear()
		}
		s.buf.Reset(modules.Call{}) // nothing of the request waits in the pool
		s.call, s.notes = nil, notes{}
		s.budget.Stop()
	}
	d.pool <- s
}
