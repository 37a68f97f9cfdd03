package lualib

import (
	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// OpenCoroutine makes the functions of coroutine out of gopher-lua's, which let a
// coroutine count against nothing, be resumed while it runs, yield where it
// cannot be gone on with, and go on after an error.
func OpenCoroutine(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	get := func(name string) lua.LGFunction { return theirs.RawGetString(name).(*lua.LFunction).GFunction }
	c := coroutines{create: get("create"), resume: get("resume"), status: get("status"), yield: get("yield")}
	return L.SetFuncs(L.CreateTable(0, 6), map[string]lua.LGFunction{
		"create":  c.newThread,
		"resume":  c.resumeThread,
		"running": get("running"),
		"status":  c.statusOf,
		"wrap":    c.wrap,
		"yield":   c.suspend,
	})
}

type coroutines struct{ create, resume, status, yield lua.LGFunction }

// newThread is create(f).
func (c *coroutines) newThread(L *lua.LState) int {
	b := budget.Of(L)
	if f := L.CheckFunction(1); f.IsG {
		L.ArgError(1, "Lua function expected")
	}
	b.NewThread(L)
	b.Alloc(L, coroutineBytes)
	b.Work(L, 100)
	b.Room(L, 8)
	// Without a context gopher-lua makes no child of it; with these options the
	// coroutine's stack ends where coroutineBytes says. Whatever happens, this
	// thread must not go on without its budget.
	ctx, most := L.RemoveContext(), L.Options.RegistryMaxSize
	defer func() {
		L.SetContext(ctx)
		L.Options.RegistryMaxSize = most
	}()
	L.Options.RegistryMaxSize = coroutineSlots
	n := c.create(L)
	budget.Attach(L.Get(-1).(*lua.LState), b)
	return n
}

// resumeThread is resume(co, ...).
func (c *coroutines) resumeThread(L *lua.LState) int {
	co := L.CheckThread(1)
	if co == L.G.MainThread || budget.ThreadOf(co).Resumed {
		state := "normal"
		if co == L {
			state = "running"
		}
		L.Push(lua.LFalse)
		L.Push(lua.LString("cannot resume " + state + " coroutine"))
		return 2
	}
	if co.Dead {
		L.Push(lua.LFalse)
		L.Push(lua.LString("cannot resume dead coroutine"))
		return 2
	}
	t := budget.ThreadOf(co)
	t.Resumed = true
	defer func() { t.Resumed = false }()
	budget.Of(L).Work(L, 5)
	return c.resume(L)
}

// wrap is wrap(f): a function that resumes and raises what is raised.
func (c *coroutines) wrap(L *lua.LState) int {
	c.newThread(L)
	co := L.Get(-1)
	L.Pop(1)
	L.Push(L.NewFunction(func(L *lua.LState) int {
		L.Insert(co, 1)
		n := c.resumeThread(L)
		if n > 0 && L.Get(-n) == lua.LFalse {
			v := L.Get(-1)
			copied(L, 2*len(v.String()))
			L.Error(v, 0)
		}
		return n - 1
	}))
	return 1
}

// statusOf is status(co).
func (c *coroutines) statusOf(L *lua.LState) int {
	co := L.CheckThread(1)
	if co != L && (co == L.G.MainThread || budget.ThreadOf(co).Resumed) {
		L.Push(lua.LString("normal"))
		return 1
	}
	return c.status(L)
}

// suspend is yield(...).
func (c *coroutines) suspend(L *lua.LState) int {
	t := budget.ThreadOf(L)
	switch {
	case L == L.G.MainThread || !t.Resumed:
		L.RaiseError("attempt to yield from outside a coroutine")
	case !t.CanYield():
		L.RaiseError("attempt to yield across metamethod/C-call boundary")
	}
	return c.yield(L)
}
