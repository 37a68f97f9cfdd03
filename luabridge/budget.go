package luabridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"usher/luabridge/modules"
)

// clockEvery is after how many steps the clock is read.
const clockEvery = 1000

var (
	errSteps    = errors.New("budget of steps used up (director.steps)")
	errDeadline = errors.New("deadline exceeded (director.timeout)")
	errDepth    = fmt.Errorf("budget of depth used up (%d calls within one another, %d values on the stack)", callDepth, registryMax)
	errThreads  = fmt.Errorf("budget of coroutines used up (%d)", maxThreads)
)

// closed is what Done returns past the budget.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// A budget is the context of a Lua state while it works for a request.
// gopher-lua asks Done at every instruction, which makes it the counter of
// steps; the clock is read every thousandth time. It is one goroutine's.
//
// Past the budget every instruction raises an error, so a script that catches
// it with pcall gets no further.
type budget struct {
	parent context.Context
	began  time.Time
	end    time.Time
	call   *modules.Call

	steps int // left
	clock int // steps until the clock is read
	made  int // coroutines
	fault error
}

func (b *budget) reset(parent context.Context, steps int, began, end time.Time) {
	*b = budget{parent: parent, began: began, end: end, steps: steps, clock: clockEvery}
}

// Done implements context.Context for gopher-lua's main loop alone: it counts,
// and its channel is never closed later. Go functions that block wait on
// modules.Call.Ctx.
func (b *budget) Done() <-chan struct{} {
	if b.fault != nil {
		return closed
	}
	b.steps--
	b.clock--
	switch {
	case b.steps < 0:
		b.fault = errSteps
		return closed
	case b.clock <= 0:
		b.clock = clockEvery
		if !time.Now().Before(b.end) || b.parent.Err() != nil {
			b.fault = errDeadline
			return closed
		}
	}
	return nil
}

// Err implements context.Context.
func (b *budget) Err() error { return b.fault }

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) { return b.end, true }

// Value implements context.Context; modules find their Call by it.
func (b *budget) Value(key any) any {
	if key == modules.Key {
		return b.call
	}
	return b.parent.Value(key)
}
