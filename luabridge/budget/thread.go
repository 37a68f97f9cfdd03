package budget

import (
	"context"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// A Thread is the context of one Lua thread, main or coroutine. gopher-lua
// calls Done before each instruction, with the thread's current frame in place.
// It is no context for anybody else: its channel is never closed later, and Go
// functions that block wait on the request's own.
type Thread struct {
	budget *Budget
	frame  **frame   // where the thread keeps its current frame
	reg    *registry // its stack of values

	// See PCall.
	open      **upvalue // variables on the stack that closures keep, by index
	keepOpen  *bool     // gopher-lua closes none of them at an error
	protected int       // calls by PCall that run
	base      int       // where the innermost of them begins

	// Resumed: it was resumed and has not come back. gopher-lua itself resumes
	// such a coroutine again, and two that resume each other have no end.
	Resumed bool
}

// ThreadOf returns what is attached to a thread.
func ThreadOf(L *lua.LState) *Thread { return L.Context().(*Thread) }

// CanYield reports whether a Go function that the thread's code has called may
// suspend it: there is only Lua code, called by Lua code, between it and the
// coroutine's beginning.
func (t *Thread) CanYield() bool {
	for f := (*t.frame).Parent; f != nil; f = f.Parent {
		// Else it is a Go function that calls, a metamethod or an iterator of for.
		// A tail call could not be gone on with: see lualib's Compile.
		if f.Fn.IsG || int(f.Fn.Proto.Code[f.Pc-1]>>opShift) != lua.OP_CALL {
			return false
		}
	}
	return true
}

// Room raises an error unless n values have room on the stack, where
// gopher-lua would make the stack anew for each such error.
func (b *Budget) Room(L *lua.LState, n int) {
	if r := ThreadOf(L).reg; r.top+n+spare > r.maxSize {
		L.RaiseError("registry overflow")
	}
}

// spare is how many values an error and its handler need.
const spare = 64

// Attach makes b count what L does. By itself gopher-lua gives a coroutine a
// child of its creator's context, which it asks once: attach to each.
func Attach(L *lua.LState, b *Budget) {
	L.SetContext(&Thread{budget: b, frame: frameOf(L), reg: registryOf(L), open: openOf(L), keepOpen: keepOf(L)})
}

// closed is what Done returns to stop.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context.
func (t *Thread) Done() <-chan struct{} {
	b := t.budget
	b.steps--
	if b.steps < b.alarm && b.look() {
		return closed
	}
	f := *t.frame
	inst := f.Fn.Proto.Code[f.Pc-1]
	if watched>>(inst>>opShift)&1 != 0 && t.stop(f, inst) {
		return closed
	}
	return nil
}

// Err implements context.Context: why Done stopped.
func (t *Thread) Err() error { return t.budget.err }

// Deadline implements context.Context.
func (t *Thread) Deadline() (time.Time, bool) { return t.budget.end, true }

// Value implements context.Context.
func (t *Thread) Value(key any) any { return t.budget.parent.Value(key) }

var _ context.Context = (*Thread)(nil)
