package lualib

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// What a coroutine takes, with the largest stack that it may have; see Options.
const (
	stackSlots     = 64 * 1024 // values on the stack of the main thread, at most
	coroutineSlots = 6 * 1024  // and of a coroutine
	callDepth      = 200       // Lua calls within one another
	frameBytes     = 88        // one of them
	coroutineBytes = coroutineSlots*16 + callDepth*frameBytes + 1024
)

// What the syntax tree and the code of a source take, measured by TestLoadCost:
// for each, for each of its bytes, and for each of its functions.
const (
	loadBytes     = 30000
	sourceBytes   = 400
	functionBytes = 12000
)

func loadCost(source string) int {
	return loadBytes + sourceBytes*len(source) + functionBytes*strings.Count(source, "function")
}

// Options are those of a state whose stacks grow as the constants above say.
var Options = lua.Options{
	SkipOpenLibs: true, CallStackSize: callDepth,
	RegistrySize: 1024, RegistryMaxSize: stackSlots, RegistryGrowStep: 1024,
}

// OpenBase makes base functions that know the budget out of gopher-lua's.
// compile turns source into a function.
func OpenBase(L *lua.LState, theirs *lua.LTable, compile Compile) map[string]lua.LGFunction {
	get := func(name string) lua.LGFunction { return theirs.RawGetString(name).(*lua.LFunction).GFunction }
	text := func(name string) lua.LGFunction { // reads a text in its first argument
		f := get(name)
		return func(L *lua.LState) int {
			if s, ok := L.Get(1).(lua.LString); ok && len(s) > copiedPerStep {
				budget.Of(L).Work(L, len(s)/16)
			}
			return f(L)
		}
	}
	return map[string]lua.LGFunction{
		"assert":     assert,
		"error":      raise(get("error")),
		"load":       compile.load,
		"loadstring": compile.loadstring,
		"next":       next,
		"pcall":      protected(get("pcall")),
		"rawequal":   get("rawequal"),
		"rawset":     rawset(get("rawset")),
		"select":     selectValues(get("select")),
		"tonumber":   text("tonumber"),
		"tostring":   tostring(get("tostring")),
		"type":       get("type"),
		"unpack":     unpack,
		"xpcall":     protected(get("xpcall")),
	}
}

// assert is Lua's, but for its message: it may be any value, and is raised as
// it is.
func assert(L *lua.LState) int {
	if L.ToBool(1) {
		return L.GetTop()
	}
	L.CheckAny(1)
	message := L.Get(2)
	if message == lua.LNil {
		message = lua.LString("assertion failed!")
	}
	text := message.String()
	copied(L, 2*len(text))
	if lua.LVCanConvToString(message) {
		L.RaiseError("%s", text)
	}
	L.Error(message, 1)
	return 0
}

// raise is error.
func raise(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		text := L.Get(1).String()
		copied(L, 2*len(text))
		return f(L)
	}
}

// protected is pcall or xpcall. Each error that they catch has a trace of the
// calls made for it.
func protected(f lua.LGFunction) lua.LGFunction {
	const traceSteps, traceBytes = 50, 2048
	return func(L *lua.LState) int {
		n := f(L)
		if n > 0 && L.Get(-n) == lua.LFalse {
			b := budget.Of(L)
			b.Alloc(L, traceBytes)
			b.Work(L, traceSteps)
		}
		return n
	}
}

func tostring(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		if _, ok := L.Get(1).(lua.LString); !ok {
			budget.Of(L).Alloc(L, 2*valueBytes)
		}
		return f(L)
	}
}

func next(L *lua.LState) int {
	t := L.CheckTable(1)
	k, v := budget.Of(L).Next(L, t, L.Get(2))
	if k == lua.LNil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(k)
	L.Push(v)
	return 2
}

func rawset(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		at := -1
		if n, ok := L.Get(2).(lua.LNumber); ok && n > 0 && n < lua.LNumber(lua.MaxArrayIndex) {
			at = int(n)
		}
		budget.Of(L).Store(L, L.CheckTable(1), at)
		return f(L)
	}
}

func selectValues(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		budget.Of(L).Work(L, L.GetTop()/16)
		return f(L)
	}
}

// unpack is unpack(t [, i [, j]]).
func unpack(L *lua.LState) int {
	t := L.CheckTable(1)
	b := budget.Of(L)
	from := optInt(L, 2, 1)
	to := optInt(L, 3, b.Len(L, t))
	if from > to {
		return 0
	}
	if to-from >= stackSlots || to-from < 0 {
		L.RaiseError("registry overflow")
	}
	b.Work(L, (to-from)/perStep)
	for i := from; i <= to; i++ {
		L.Push(t.RawGetInt(i))
	}
	return to - from + 1
}

// Compile turns source into a function whose globals are env. Its error texts
// begin with the chunk's name.
type Compile func(source, name string) (*lua.FunctionProto, error)

// compiled pushes the function of a source, or nil and what is wrong.
func (c Compile) compiled(L *lua.LState, source, name string) int {
	b := budget.Of(L)
	b.Alloc(L, loadCost(source))
	b.Work(L, 200+2*len(source))
	proto, err := c(source, name)
	if err != nil {
		L.Push(lua.LNil)
		L.Push(lua.LString(err.Error()))
		return 2
	}
	L.Push(L.NewFunctionFromProto(proto))
	return 1
}

// loadstring is loadstring(text [, name]).
func (c Compile) loadstring(L *lua.LState) int {
	return c.compiled(L, L.CheckString(1), L.OptString(2, "<string>"))
}

// load is load(function or text [, name]). The function returns the source in
// pieces, and nil or "" at its end.
func (c Compile) load(L *lua.LState) int {
	name := L.OptString(2, "?")
	if s, ok := L.Get(1).(lua.LString); ok { // as in Lua 5.2
		return c.compiled(L, string(s), name)
	}
	f := L.CheckFunction(1)
	var source strings.Builder
	for {
		L.Push(f)
		L.Call(0, 1)
		piece := L.Get(-1)
		L.Pop(1)
		if piece == lua.LNil {
			break
		}
		if !lua.LVCanConvToString(piece) {
			L.Push(lua.LNil)
			L.Push(lua.LString("reader function must return a string"))
			return 2
		}
		s := piece.String()
		if s == "" {
			break
		}
		copied(L, 2*len(s))
		source.WriteString(s)
	}
	return c.compiled(L, source.String(), name)
}

// OpenCoroutine makes the functions of coroutine out of gopher-lua's: each
// coroutine counts against the budget of its request.
func OpenCoroutine(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	ours := L.CreateTable(0, 6)
	theirs.ForEach(func(k, v lua.LValue) { ours.RawSet(k, v) })
	for _, name := range []string{"create", "wrap"} {
		f := theirs.RawGetString(name).(*lua.LFunction).GFunction
		ours.RawSetString(name, L.NewFunction(func(L *lua.LState) int { return newThread(L, f) }))
	}
	return ours
}

func newThread(L *lua.LState, create lua.LGFunction) int {
	b := budget.Of(L)
	L.CheckFunction(1)
	b.NewThread(L)
	b.Alloc(L, coroutineBytes)
	b.Work(L, 100)
	// Without a context gopher-lua makes no child of it; with these options the
	// coroutine's stack ends where coroutineBytes says.
	ctx, most := L.RemoveContext(), L.Options.RegistryMaxSize
	L.Options.RegistryMaxSize = coroutineSlots
	n := create(L)
	L.Options.RegistryMaxSize = most
	L.SetContext(ctx)

	th, ok := L.Get(-1).(*lua.LState)
	if !ok { // wrap's function
		th = L.Get(-1).(*lua.LFunction).Upvalues[0].Value().(*lua.LState)
	}
	budget.Attach(th, b)
	return n
}

// ErrDepth is the fault of a script that nests too deep.
var ErrDepth = fmt.Errorf("%w (%d calls within one another, %d values on the stack, %d in a coroutine)",
	budget.ErrDepth, callDepth, stackSlots, coroutineSlots)
