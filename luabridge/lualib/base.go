package lualib

import (
	"errors"
	"fmt"
	"strconv"
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
	RegistrySize: 1024, RegistryMaxSize: stackSlots, RegistryGrowStep: 16 * 1024,
}

// OpenBase makes base functions that know the budget out of gopher-lua's.
func OpenBase(theirs *lua.LTable) map[string]lua.LGFunction {
	get := func(name string) lua.LGFunction { return theirs.RawGetString(name).(*lua.LFunction).GFunction }
	return map[string]lua.LGFunction{
		"assert":     assert,
		"error":      raise(get("error")),
		"load":       load,
		"loadstring": loadstring,
		"next":       next,
		"pcall":      pcall,
		"rawequal":   get("rawequal"),
		"rawget":     rawget(get("rawget")),
		"rawset":     rawset(get("rawset")),
		"select":     selectValues,
		"tonumber":   tonumber,
		"tostring":   tostring(get("tostring")),
		"type":       get("type"),
		"unpack":     unpack,
		"xpcall":     xpcall,
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

// raise is error. The level is small, and searched for among all calls.
func raise(f lua.LGFunction) lua.LGFunction {
	const maxLevel = 10
	return func(L *lua.LState) int {
		if L.GetTop() == 0 {
			L.Push(lua.LNil)
		}
		text := L.Get(1).String()
		copied(L, 2*len(text))
		if level, ok := L.Get(2).(lua.LNumber); ok && level > maxLevel {
			L.Replace(2, lua.LNumber(maxLevel))
		}
		return f(L)
	}
}

// pcall is pcall(f, ...).
func pcall(L *lua.LState) int {
	L.CheckAny(1)
	budget.Of(L).Work(L, 2)
	if err := budget.PCall(L, L.GetTop()-1); err != nil {
		L.SetTop(0)
		L.Push(lua.LFalse)
		L.Push(caught(L, err))
		return 2
	}
	L.Insert(lua.LTrue, 1)
	return L.GetTop()
}

// xpcall is xpcall(f, handler). The handler runs when the calls are undone.
func xpcall(L *lua.LState) int {
	L.CheckAny(1)
	handler := L.CheckAny(2)
	budget.Of(L).Work(L, 2)
	L.SetTop(1)
	err := budget.PCall(L, 0)
	if err == nil {
		L.Insert(lua.LTrue, 1)
		return L.GetTop()
	}
	L.SetTop(0)
	L.Push(handler)
	L.Push(caught(L, err))
	if err := budget.PCall(L, 1); err != nil {
		L.SetTop(0)
		L.Push(caught(L, err))
	}
	L.SetTop(1)
	L.Insert(lua.LFalse, 1)
	return 2
}

// caught takes what an error took that is caught, and returns its value.
func caught(L *lua.LState, err error) lua.LValue {
	const errorSteps, errorBytes = 20, 512
	b := budget.Of(L)
	b.Alloc(L, errorBytes)
	b.Work(L, errorSteps)
	if api := (*lua.ApiError)(nil); errors.As(err, &api) && api.Object != nil {
		return api.Object
	}
	return lua.LString(err.Error())
}

func next(L *lua.LState) int {
	t := L.CheckTable(1)
	hashed(L, L.Get(2))
	k, v := budget.Of(L).Next(L, t, L.Get(2))
	if k == lua.LNil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(k)
	L.Push(v)
	return 2
}

// hashed takes the steps of hashing a key.
func hashed(L *lua.LState, k lua.LValue) {
	if s, ok := k.(lua.LString); ok && len(s) > 256 {
		budget.Of(L).Work(L, len(s)/256)
	}
}

func rawget(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		hashed(L, L.Get(2))
		return f(L)
	}
}

func rawset(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		at := -1
		if n, ok := L.Get(2).(lua.LNumber); ok && n > 0 && n < lua.LNumber(lua.MaxArrayIndex) {
			at = int(n)
		}
		hashed(L, L.Get(2))
		budget.Of(L).Store(L, L.CheckTable(1), at)
		return f(L)
	}
}

// selectValues is select(n, ...) and select("#", ...).
func selectValues(L *lua.LState) int {
	top := L.GetTop()
	budget.Of(L).Work(L, top/16)
	if L.Get(1) == lua.LString("#") {
		L.Push(lua.LNumber(top - 1))
		return 1
	}
	i := checkInt(L, 1)
	if i < 0 {
		i += top
	}
	i = min(i, top)
	if i < 1 {
		L.ArgError(1, "index out of range")
	}
	return top - i
}

// tonumber is tonumber(v [, base]): the whole text must be a number, which may
// have spaces around it.
func tonumber(L *lua.LState) int {
	base := optInt(L, 2, 10)
	if base < 2 || base > 36 {
		L.ArgError(2, "base out of range")
	}
	switch v := L.CheckAny(1).(type) {
	case lua.LNumber:
		L.Push(v)
		return 1
	case lua.LString:
		if f, ok := parseNumber(string(v), base); ok {
			L.Push(lua.LNumber(f))
			return 1
		}
	}
	L.Push(lua.LNil)
	return 1
}

func parseNumber(s string, base int) (float64, bool) {
	if len(s) > maxNumber {
		return 0, false
	}
	s = strings.Trim(s, " \t\n\v\f\r")
	if strings.Contains(s, "_") {
		return 0, false // Go's
	}
	if base != 10 {
		if base == 16 {
			s = strings.TrimPrefix(strings.ToLower(s), "0x")
		}
		n, err := strconv.ParseInt(s, base, 64)
		return float64(n), err == nil
	}
	digits, negative := strings.CutPrefix(s, "-")
	if hex, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
		n, err := strconv.ParseUint(hex, 16, 64)
		f := float64(n)
		if negative {
			f = -f
		}
		return f, err == nil
	}
	if strings.ContainsAny(s, "xXpPnNiI") {
		return 0, false // Go's nan, inf and binary exponents
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

func tostring(f lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		if _, ok := L.Get(1).(lua.LString); !ok {
			budget.Of(L).Alloc(L, 2*valueBytes)
		}
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
	n := to - from + 1
	if n > stackSlots || n < 0 {
		L.RaiseError("registry overflow")
	}
	b.Room(L, n)
	b.Alloc(L, 16*n)
	b.Work(L, n/perStep)
	for i := from; i <= to; i++ {
		L.Push(t.RawGetInt(i))
	}
	return n
}

// compiled pushes the function of a source, or nil and what is wrong.
func compiled(L *lua.LState, source, name string) int {
	b := budget.Of(L)
	b.Alloc(L, loadCost(source))
	b.Work(L, 200+4*len(source))
	if b.Hints != nil {
		name = b.Hints.Shown(name, maxName)
	}
	proto, err := compile(name[:min(len(name), maxName)], source, func(constants int) {
		b.Work(L, constants*constants/10)
	})
	if err != nil {
		// Without the token, which may be a part of something secret.
		text, _, _ := strings.Cut(err.Error(), " near ")
		L.Push(lua.LNil)
		L.Push(lua.LString(text))
		return 2
	}
	L.Push(L.NewFunctionFromProto(proto))
	return 1
}

// loadstring is loadstring(text [, name]).
func loadstring(L *lua.LState) int {
	return compiled(L, L.CheckString(1), L.OptString(2, "<string>"))
}

// load is load(function or text [, name]). The function returns the source in
// pieces, and nil or "" at its end.
func load(L *lua.LState) int {
	name := L.OptString(2, "?")
	if s, ok := L.Get(1).(lua.LString); ok { // as in Lua 5.2
		return compiled(L, string(s), name)
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
		budget.Of(L).Work(L, 2)
		source.WriteString(s)
	}
	return compiled(L, source.String(), name)
}

// ErrDepth is the fault of a script that nests too deep.
var ErrDepth = fmt.Errorf("%w (%d calls within one another, %d values on the stack, %d in a coroutine)",
	budget.ErrDepth, callDepth, stackSlots, coroutineSlots)
