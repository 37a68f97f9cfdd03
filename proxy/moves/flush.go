package moves

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/proxy/affinity"
)

// StartFlush moves the users of a host, "" for all, to where Settings.Target sends
// them. It returns at once; Flushes tells how far it is. Run must be running.
func (e *Engine) StartFlush(ctx context.Context, f Flush) (Flush, error) {
	total, moves, err := e.Count(ctx, f.Host)
	if err != nil {
		return Flush{}, err
	}
	f.ID, f.State, f.Total, f.Changed = e.opt.NewID(), Queued, total, time.Now().UTC()
	f.Moved, f.Stays = 0, total-moves
	e.mu.Lock()
	e.flushes[f.ID] = f
	e.file.touch()
	e.mu.Unlock()
	if err := e.file.sync(ctx, e.snapshot); err != nil {
		e.mu.Lock()
		delete(e.flushes, f.ID)
		e.mu.Unlock()
		return Flush{}, fmt.Errorf("the flush can't be kept, and is not made: %w", err)
	}
	e.mu.Lock()
	e.wake()
	e.mu.Unlock()
	e.opt.Log.Info("flush", zap.String("id", f.ID), zap.String("host", cmp.Or(f.Host, "all")), zap.Int("users", total), zap.Int("to_move", moves),
		zap.String("by", f.Stamp.By), zap.String("reason", f.Stamp.Reason))
	return f, nil
}

// Count returns how many users a host has, "" for all, and how many of them a
// flush would move.
func (e *Engine) Count(ctx context.Context, host string) (total, moves int, err error) {
	target := e.settings.Load().Target
	err = e.opt.Store.Each(ctx, host, func(a affinity.Assignment) bool {
		total++
		if to, ok := target(a); ok && to != a.Host {
			moves++
		}
		return true
	})
	return total, moves, err
}

// Flush returns one by its id.
func (e *Engine) Flush(id string) (Flush, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, ok := e.flushes[id]
	return f, ok
}

// Flushes returns the flushes that are known, the newest first.
func (e *Engine) Flushes() []Flush {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.flushes), func(a, b Flush) int { return cmp.Compare(b.ID, a.ID) })
}

// StopFlush ends a flush; moves on their way are finished.
func (e *Engine) StopFlush(id string, stamp affinity.Stamp) (Flush, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, ok := e.flushes[id]
	if !ok || f.State.Ended() {
		return f, fmt.Errorf("%w: no flush %.80s is on its way", ErrNoMove, id)
	}
	f.State, f.Error, f.Changed = Undone, "stopped by "+stamp.By, time.Now().UTC()
	e.flushes[id] = f
	e.remember(id)
	e.file.touch()
	e.wake()
	return f, nil
}

// account counts a move that ended for its flush. The caller holds e.mu.
func (e *Engine) account(m Move) {
	f, ok := e.flushes[m.Flush]
	if !ok {
		return
	}
	if m.State == Done {
		f.Moved++
	} else {
		f.Failed++
		f.Error = m.User + ": " + m.Error
	}
	f.Changed = m.Changed
	e.flushes[f.ID] = f
}

// resumeFlushes runs the flushes that wait, once there are settings and whenever one is
// ordered.
func (e *Engine) resumeFlushes(ctx context.Context, work *sync.WaitGroup) {
	work.Go(func() {
		started := map[string]bool{}
		for {
			e.mu.Lock()
			changed := e.changed
			for id, f := range e.flushes {
				if !f.State.Ended() && !started[id] && e.settings.Load().Target != nil {
					started[id] = true
					work.Go(func() { e.runFlush(ctx, id) })
				}
			}
			e.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	})
}

// longestPause is between two moves of a flush, however low its rate.
const longestPause = 24 * time.Hour

// runFlush starts the moves of a flush, at most PerSec a second and no more at a
// time than may be on their way.
func (e *Engine) runFlush(ctx context.Context, id string) {
	f, ok := e.flushStep(id, func(f *Flush) { f.State = Kicking })
	if !ok {
		return
	}
	var keys []affinity.Assignment // only key and host: there can be millions
	err := e.opt.Store.Each(ctx, f.Host, func(a affinity.Assignment) bool {
		if to, moves := e.settings.Load().Target(a); moves && to != a.Host {
			keys = append(keys, affinity.Assignment{Key: a.Key, Host: a.Host})
		}
		return ctx.Err() == nil
	})
	var pause time.Duration
	if f.PerSec > 0 {
		pause = time.Duration(min(float64(time.Second)/f.PerSec, float64(longestPause)))
	}
	next := time.Now()
	var waiting []string
	for _, a := range keys {
		if err != nil || ctx.Err() != nil {
			break
		}
		if f, _ = e.Flush(id); f.State.Ended() {
			return
		}
		to, moves := e.settings.Load().Target(a)
		if !moves || to == a.Host {
			continue
		}
		if len(waiting) >= min(e.settings.Load().Parallel, maxWaiting/2) {
			_, _ = e.Wait(ctx, waiting[0]) // how it went is counted where it ends
			waiting = waiting[1:]
		}
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return
		}
		next = time.Now().Add(pause) // a flush that fell behind does not catch up
		if now, getErr := e.opt.Store.Get(ctx, a.Key); getErr == nil && now.Host != a.Host {
			continue // moved, or gone, since the list was made
		}
		m, startErr := e.Start(ctx, Order{User: a.Key.Name, Key: a.Key, To: to, Force: f.Force, Stamp: f.Stamp, flush: id})
		if m, moving := e.Of(a.Key); errors.Is(startErr, ErrMoving) && moving && m.Flush == id {
			waiting = append(waiting, m.ID) // from before a restart
			continue
		}
		if startErr != nil {
			e.flushStep(id, func(f *Flush) { f.Failed++; f.Error = a.Key.Name + ": " + startErr.Error() })
			continue
		}
		waiting = append(waiting, m.ID)
	}
	for _, m := range waiting {
		_, _ = e.Wait(ctx, m)
	}
	if ctx.Err() != nil {
		return // it goes on after the restart
	}
	f, ok = e.flushStep(id, func(f *Flush) {
		f.State = Done
		if err != nil {
			f.State, f.Error = Failed, err.Error()
		}
	})
	if ok {
		e.opt.Log.Info("flush", zap.String("id", id), zap.String("state", string(f.State)), zap.Int("moved", f.Moved), zap.Int("failed", f.Failed), zap.String("error", f.Error))
	}
}

// flushStep changes a flush that has not ended.
func (e *Engine) flushStep(id string, change func(*Flush)) (Flush, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, ok := e.flushes[id]
	if !ok || f.State.Ended() {
		return f, false
	}
	change(&f)
	f.Changed = time.Now().UTC()
	e.flushes[id] = f
	if f.State.Ended() {
		e.remember(id)
	}
	e.file.touch()
	e.wake()
	return f, true
}
