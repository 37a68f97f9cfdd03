// Package budget bounds what one request's scripts may use of a Lua state:
// steps, memory, coroutines, depth and time.
//
// A Budget is attached to each thread of a state as its context, which
// gopher-lua asks before every instruction. So it counts the steps, and since
// it looks at the instruction that comes next, it knows before it happens what
// that will allocate and how long it will take (cost.go). Go functions that do
// more than a few steps' work say so with Work and Alloc.
//
// Past a budget every further instruction raises an error: a script that
// catches it with pcall gets no further.
package budget

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// The budgets. A fault wraps one of them.
var (
	ErrSteps    = errors.New("budget of steps used up")
	ErrMemory   = errors.New("budget of memory used up")
	ErrDeadline = errors.New("deadline exceeded")
	ErrDepth    = errors.New("budget of depth used up")
	ErrThreads  = errors.New("budget of coroutines used up")
)

const (
	// clockEvery is after how many steps the clock is read: some 20 µs.
	clockEvery = 1000
	// yieldEvery is after how many such times other goroutines go first.
	yieldEvery = 4
	// maxThreads bounds the coroutines of one request.
	maxThreads = 100
	// always is an alarm that every step trips.
	always = int(^uint(0) >> 1)
)

// Limits are what a request may use.
type Limits struct {
	Steps  int // about one a Lua instruction
	Memory int // bytes, all that is allocated; what is dropped is not given back
	Time   time.Duration
}

// A Budget is what is left to one request. It is one goroutine's.
type Budget struct {
	// Owner is whom the state works for.
	Owner any
	// Hints, if set, knows what scripts may have meant; see Hints.
	Hints Hints
	// Clock, if set, is what scripts take for the time. The deadline goes by the
	// real one.
	Clock func() time.Time

	limits Limits
	parent context.Context
	began  time.Time
	end    time.Time

	steps  int // left
	alarm  int // steps below this: look closer
	looks  int // how often the clock was read
	memory int // left
	// The most that was taken at once: no text is longer.
	largest int

	threads int
	fault   error // a budget is used up
	err     error // what Done stopped for

	// The table that was stored into last, and its size before; see settle.
	last     *table
	lastKeys int
	lastCap  int
	lastHash bool
}

// Start begins a request.
func (b *Budget) Start(parent context.Context, l Limits, now time.Time) {
	*b = Budget{
		Hints: b.Hints, Clock: b.Clock, limits: l, parent: parent, began: now, end: now.Add(l.Time),
		steps: l.Steps, memory: l.Memory, alarm: max(l.Steps-clockEvery, 0),
	}
}

// Stop ends the request: nothing of it is kept.
func (b *Budget) Stop() { *b = Budget{Hints: b.Hints, Clock: b.Clock} }

// Now is the time as scripts see it.
func (b *Budget) Now() time.Time {
	if b.Clock != nil {
		return b.Clock()
	}
	return time.Now()
}

// Fault is the budget that is used up, with its limit, or nil.
func (b *Budget) Fault() error { return b.fault }

// Steps are the steps taken so far.
func (b *Budget) Steps() int { return b.limits.Steps - max(b.steps, 0) }

// Memory is what was allocated so far, in bytes.
func (b *Budget) Memory() int { return b.limits.Memory - max(b.memory, 0) }

// Began is when the request began, End its deadline.
func (b *Budget) Began() time.Time { return b.began }

// End is the request's deadline.
func (b *Budget) End() time.Time { return b.end }

// Exceed notes that a budget is used up, unless another was before.
func (b *Budget) Exceed(which error) {
	if b.fault != nil {
		return
	}
	limit := map[error]string{
		ErrSteps:    fmt.Sprintf(" (director.steps: %d)", b.limits.Steps),
		ErrMemory:   fmt.Sprintf(" (director.memory: %d bytes)", b.limits.Memory),
		ErrDeadline: fmt.Sprintf(" (director.timeout: %s)", b.limits.Time),
		ErrThreads:  fmt.Sprintf(" (%d)", maxThreads),
	}
	b.fault = fmt.Errorf("%w%s", which, limit[which])
	b.alarm = always
}

// look is called when steps fell below the alarm. It reports whether to stop.
func (b *Budget) look() bool {
	switch {
	case b.fault != nil:
	case b.steps < 0:
		b.Exceed(ErrSteps)
	default:
		b.alarm = max(b.steps-clockEvery, 0)
		if !time.Now().Before(b.end) || b.parent.Err() != nil {
			b.Exceed(ErrDeadline)
			break
		}
		// Whoever works this long lets others go first: an expensive request
		// takes longer, the many cheap ones do not.
		if b.looks++; b.looks%yieldEvery == 0 {
			runtime.Gosched()
		}
		return false
	}
	b.err = b.fault
	return true
}

// Work takes n steps for what a Go function is about to do; one step is some
// ten nanoseconds' work. It raises a Lua error when they are used up.
func (b *Budget) Work(L *lua.LState, n int) {
	b.steps -= n
	if b.steps < b.alarm && b.look() {
		b.raise(L)
	}
}

// Alloc takes n bytes for what a Go function is about to allocate. It raises a
// Lua error when they are used up.
func (b *Budget) Alloc(L *lua.LState, n int) {
	if b.take(n) {
		b.raise(L)
	}
}

// take takes n bytes and reports whether to stop.
func (b *Budget) take(n int) bool {
	if n < 0 || n > b.memory { // a negative one is a sum that overflowed
		b.memory = 0
		b.Exceed(ErrMemory)
		b.err = b.fault
		return true
	}
	b.memory -= n
	b.largest = max(b.largest, n)
	return false
}

func (b *Budget) raise(L *lua.LState) {
	L.RaiseError("%s", b.fault)
}

// NewThread takes one coroutine.
func (b *Budget) NewThread(L *lua.LState) {
	if b.threads++; b.threads > maxThreads {
		b.Exceed(ErrThreads)
		b.raise(L)
	}
}

// Of returns the budget of a state.
func Of(L *lua.LState) *Budget { return L.Context().(*Thread).budget }
