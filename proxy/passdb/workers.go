package passdb

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"usher/proxy"
)

// ErrOverload is wrapped by errors that say that hashing had no room: a
// temporary failure.
var ErrOverload = fmt.Errorf("passdb: too many passwords to hash: %w", proxy.ErrOverload)

// maxWaiting bounds the line before the slots, in callers.
const maxWaiting = 256

// Workers bounds how many slow hashes run at once, so that they leave
// processors for routing. One Workers serves all drivers. Make it with
// NewWorkers.
type Workers struct {
	slots   chan struct{}
	waiting atomic.Int64
	line    int64
}

// NewWorkers returns Workers with half of the processors that Go may use as
// slots, at least one, and a line of 256 callers.
func NewWorkers() *Workers {
	return newWorkers(max(1, runtime.GOMAXPROCS(0)/2), maxWaiting)
}

func newWorkers(slots int, line int64) *Workers {
	return &Workers{slots: make(chan struct{}, slots), line: line}
}

// Do runs f in the caller's goroutine once there is a slot. It returns an error
// that wraps ErrOverload, without running f, when the line is full or ctx ends
// first. It does not interrupt f.
func (w *Workers) Do(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrOverload, err)
	}
	select {
	case w.slots <- struct{}{}:
	default:
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
	defer func() { <-w.slots }()
	f()
	return nil
}

func (w *Workers) wait(ctx context.Context) error {
	defer w.waiting.Add(-1)
	if n := w.waiting.Add(1); n > w.line {
		return fmt.Errorf("%w: %d are waiting", ErrOverload, n-1)
	}
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOverload, ctx.Err())
	}
}
