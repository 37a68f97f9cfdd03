package luabridge

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"usher/luabridge/modules"
)

const (
	callDepth    = 200       // Lua calls within one another
	registrySize = 1024      // slots at first
	registryMax  = 64 * 1024 // slots at most
	maxThreads   = 100       // coroutines of a request: each has stacks of its own
)

// A state is one Lua state with what scripts of all requests share: functions,
// which they cannot change, and library tables that they never get hold of.
// Each request gets an environment of its own; library tables and modules
// appear in it as empty tables in front of the shared ones, so that whatever a
// script writes into them is gone with the request.
type state struct {
	L      *lua.LState
	budget budget

	envMeta     *lua.LTable            // of each request's globals
	requestMeta *lua.LTable            // of each request's table
	fronts      map[string]*lua.LTable // by name: the metatable of a library's front
	director    *Director

	stringMeta *lua.LTable // of texts
	ownStrings bool        // the present request has given texts another one
}

// keptGlobals are the functions of Lua's base library that policies have as
// they are. The rest is out, or made anew below: what reaches files, other
// environments or the collector.
var keptGlobals = []string{
	"assert", "error", "pcall", "rawequal", "select", "tonumber",
	"tostring", "type", "unpack", "xpcall", "load", "loadstring", "_VERSION",
}

// libraries of Lua that policies have, and what of them stays out.
var libraries = []struct {
	name string
	open lua.LGFunction
	drop []string
}{
	{lua.StringLibName, lua.OpenString, []string{"dump", "__index"}},
	{lua.TabLibName, lua.OpenTable, nil},
	{lua.MathLibName, lua.OpenMath, nil},
	{lua.CoroutineLibName, lua.OpenCoroutine, nil},
	{lua.OsLibName, lua.OpenOs, []string{"execute", "exit", "remove", "rename", "setenv", "setlocale", "tmpname"}},
}

func newState(d *Director) *state {
	L := lua.NewState(lua.Options{
		SkipOpenLibs: true, CallStackSize: callDepth,
		RegistrySize: registrySize, RegistryMaxSize: registryMax, RegistryGrowStep: 1024,
	})
	s := &state{L: L, director: d, fronts: map[string]*lua.LTable{}}
	call := func(f lua.LGFunction) {
		L.Push(L.NewFunction(f))
		L.Call(0, 0)
	}
	call(lua.OpenBase)
	all := L.G.Global
	base := L.NewTable()
	for _, name := range keptGlobals {
		base.RawSetString(name, all.RawGetString(name))
	}
	s.setBase(base, all)

	for _, lib := range libraries {
		call(lib.open)
		t := all.RawGetString(lib.name).(*lua.LTable)
		shared := L.NewTable()
		t.ForEach(func(k, v lua.LValue) {
			if !slices.Contains(lib.drop, k.String()) {
				shared.RawSet(k, v)
			}
		})
		switch lib.name {
		case lua.StringLibName:
			// Methods of texts go by a metatable of which scripts see nothing.
			s.stringMeta = modules.Sealed(L, shared)
			L.SetMetatable(lua.LString(""), s.stringMeta)
		case lua.MathLibName:
			shared.RawSetString("random", L.NewFunction(modules.Random))
			shared.RawSetString("randomseed", L.NewFunction(modules.RandomSeed))
		case lua.CoroutineLibName:
			s.setCoroutine(shared)
		case lua.OsLibName:
			shared.RawSetString("getenv", L.NewFunction(s.getenv))
		}
		s.fronts[lib.name] = modules.Sealed(L, shared)
	}
	s.fronts[lua.StringLibName].RawSetString("__newindex", L.NewFunction(s.setStringMethod))
	for _, m := range modules.All {
		s.fronts[m.Name] = modules.Sealed(L, m.Make(L))
	}

	base.Metatable = modules.Sealed(L, L.NewFunction(s.missingGlobal))
	s.envMeta = modules.Sealed(L, base)
	s.requestMeta = modules.NewRequestMeta(L)
	return s
}

// setBase puts our versions of base functions into base.
func (s *state) setBase(base, all *lua.LTable) {
	L := s.L
	orig := func(name string) *lua.LFunction { return all.RawGetString(name).(*lua.LFunction) }
	// What walks or changes a table as it is must see it whole. Other values than
	// tables are refused here: by itself gopher-lua lets scripts set the
	// metatable of all numbers, booleans or functions, for good.
	filled := func(name string) lua.LGFunction {
		f := orig(name)
		return func(L *lua.LState) int {
			s.fill(L, L.CheckTable(1))
			return f.GFunction(L)
		}
	}
	next := L.NewFunction(filled("next"))
	step := L.NewFunction(nextIndex)
	for name, f := range map[string]lua.LGFunction{
		"rawget":       filled("rawget"),
		"rawset":       filled("rawset"),
		"setmetatable": filled("setmetatable"),
		"getmetatable": getmetatable,
		"print":        s.print,
		"require":      s.require,
		"pairs": func(L *lua.LState) int {
			t := L.CheckTable(1)
			s.fill(L, t)
			L.Push(next)
			L.Push(t)
			L.Push(lua.LNil)
			return 3
		},
		"ipairs": func(L *lua.LState) int {
			t := L.CheckTable(1)
			L.Push(step)
			L.Push(t)
			L.Push(smallNumbers[0])
			return 3
		},
		"dynamic_loader": func(*lua.LState) int { return 0 },
	} {
		base.RawSetString(name, L.NewFunction(f))
	}
	base.RawSetString("next", next)
}

// smallNumbers are the first whole numbers as Lua values: gopher-lua's own
// ipairs allocates two for each element.
var smallNumbers = func() (list [129]lua.LValue) {
	for i := range list {
		list[i] = lua.LNumber(i)
	}
	return list
}()

// nextIndex is a step of ipairs.
func nextIndex(L *lua.LState) int {
	t, i := L.CheckTable(1), L.CheckInt(2)+1
	v := t.RawGetInt(i)
	if v == lua.LNil {
		return 0
	}
	if 0 <= i && i < len(smallNumbers) {
		L.Push(smallNumbers[i])
	} else {
		L.Push(lua.LNumber(i))
	}
	L.Push(v)
	return 2
}

// getmetatable hides what is sealed.
func getmetatable(L *lua.LState) int {
	mt := L.GetMetatable(L.CheckAny(1)) // or its __metatable, which Sealed sets to false
	if mt == lua.LFalse {
		mt = lua.LNil
	}
	L.Push(mt)
	return 1
}

// fill makes t the plain table that the script takes it for, if it is one of
// ours: the request, a library or module, or the globals.
func (s *state) fill(L *lua.LState, t *lua.LTable) {
	mt, ok := t.Metatable.(*lua.LTable)
	if !ok {
		return
	}
	c := modules.CallOf(L)
	switch {
	case mt == s.requestMeta:
		c.Fill(t)
	case mt == s.envMeta:
		t.Metatable = lua.LNil
		copyMissing(t, mt.RawGetString("__index").(*lua.LTable))
		for name := range s.fronts {
			if t.RawGetString(name) == lua.LNil {
				t.RawSetString(name, s.own(c, name))
			}
		}
		t.RawSetString("_G", t)
	default:
		for _, front := range s.fronts {
			if front != mt {
				continue
			}
			t.Metatable = lua.LNil
			copyMissing(t, mt.RawGetString("__index").(*lua.LTable))
			if mt == s.fronts[lua.StringLibName] {
				s.setStrings(t)
			}
		}
	}
}

func copyMissing(to, from *lua.LTable) {
	from.ForEach(func(k, v lua.LValue) {
		if to.RawGet(k) == lua.LNil {
			to.RawSet(k, v)
		}
	})
}

// setStringMethod is string.name = function: from here on, to the end of the
// request, it is a method of texts too.
func (s *state) setStringMethod(L *lua.LState) int {
	t := L.CheckTable(1)
	t.RawSet(L.Get(2), L.Get(3))
	s.setStrings(t)
	return 0
}

// setStrings makes t, the request's own string table, what methods of texts are
// looked up in.
func (s *state) setStrings(t *lua.LTable) {
	s.ownStrings = true
	s.L.SetMetatable(lua.LString(""), modules.Sealed(s.L, t))
}

// setCoroutine makes coroutines count against the budget of their request: by
// itself gopher-lua gives them a child context, which it asks once. And it
// bounds their number.
func (s *state) setCoroutine(lib *lua.LTable) {
	create := lib.RawGetString("create").(*lua.LFunction).GFunction
	wrap := lib.RawGetString("wrap").(*lua.LFunction).GFunction
	lib.RawSetString("create", s.L.NewFunction(func(L *lua.LState) int {
		s.countThread(L)
		n := create(L)
		L.Get(-1).(*lua.LState).SetContext(&s.budget)
		return n
	}))
	lib.RawSetString("wrap", s.L.NewFunction(func(L *lua.LState) int {
		s.countThread(L)
		n := wrap(L)
		L.Get(-1).(*lua.LFunction).Upvalues[0].Value().(*lua.LState).SetContext(&s.budget)
		return n
	}))
}

func (s *state) countThread(L *lua.LState) {
	if s.budget.made++; s.budget.made > maxThreads {
		s.budget.fault = errThreads
		L.RaiseError("%s", errThreads)
	}
}

// getenv reads the variables that director.env names, and no others.
func (s *state) getenv(L *lua.LState) int {
	name := L.CheckString(1)
	if slices.Contains(s.director.opt.Deps.Env, name) {
		if v, ok := os.LookupEnv(name); ok {
			L.Push(lua.LString(v))
			return 1
		}
	}
	L.Push(lua.LNil)
	return 1
}

// print logs.
func (s *state) print(L *lua.LState) int {
	c := modules.CallOf(L)
	var b strings.Builder
	for i := 1; i <= L.GetTop() && b.Len() < modules.MaxText; i++ {
		if i > 1 {
			b.WriteByte('\t')
		}
		b.WriteString(L.ToStringMeta(L.Get(i)).String())
	}
	c.LogLine(zap.InfoLevel, zap.String("text", c.Shown(b.String(), modules.MaxText)))
	return 0
}

// own returns the script's own table in front of the shared one of that name,
// the same whenever it asks, or nil.
func (s *state) own(c *modules.Call, name string) lua.LValue {
	if v := c.Loaded(name); v != nil {
		return v
	}
	mt := s.fronts[name]
	if mt == nil {
		return nil
	}
	t := s.L.CreateTable(0, 0)
	t.Metatable = mt
	c.SetLoaded(name, t)
	return t
}

// missingGlobal makes library tables and modules appear among the globals when
// they are asked for first.
func (s *state) missingGlobal(L *lua.LState) int {
	name, ok := L.Get(2).(lua.LString)
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	c := modules.CallOf(L)
	v := lua.LNil
	switch {
	case name == "_G":
		v = c.Env
	case s.fronts[string(name)] != nil:
		v = s.own(c, string(name))
		c.Env.RawSetString(string(name), v)
	}
	L.Push(v)
	return 1
}

// require returns a module: one of ours, or a Lua file of director.package_path,
// which is run afresh for each request.
func (s *state) require(L *lua.LState) int {
	name := L.CheckString(1)
	c := modules.CallOf(L)
	if v := s.own(c, name); v != nil { // the same table as the global of that name
		L.Push(v)
		return 1
	}
	proto, err := s.director.module(name)
	if err != nil {
		L.RaiseError("module %q: %s", c.Shown(name, 64), err)
	}
	c.SetLoaded(name, lua.LTrue) // for modules that require each other
	L.Push(L.NewFunctionFromProto(proto))
	L.Push(lua.LString(name))
	L.Call(1, 1)
	v := L.Get(-1)
	if v == lua.LNil {
		v = lua.LTrue
	}
	c.SetLoaded(name, v)
	L.Push(v)
	return 1
}

// run runs a script's chunk in a fresh environment and then, unless entry is
// empty, its entry function with the request. The results are valid until the
// next run.
func (s *state) run(proto *lua.FunctionProto, c *modules.Call, entry string) (action, result lua.LValue, err error) {
	L := s.L
	env := L.CreateTable(0, 4)
	env.Metatable = s.envMeta
	c.Env = env
	s.budget.call = c
	L.Env = env
	L.SetContext(&s.budget)
	L.SetTop(0)
	L.G.CurrentThread = L // an error in a wrapped coroutine leaves it there
	if s.ownStrings {
		L.SetMetatable(lua.LString(""), s.stringMeta)
		s.ownStrings = false
	}

	L.Push(L.NewFunctionFromProto(proto))
	if err := L.PCall(0, 0, nil); err != nil {
		return nil, nil, s.fault(c, err)
	}
	if entry == "" {
		return nil, nil, s.fault(c, nil)
	}
	f, ok := env.RawGetString(entry).(*lua.LFunction)
	if !ok {
		return nil, nil, fmt.Errorf("%s: no function %s", c.Script, entry)
	}
	c.Request = L.CreateTable(0, 8)
	c.Request.Metatable = s.requestMeta
	L.Push(f)
	L.Push(c.Request)
	if err := L.PCall(1, 2, nil); err != nil {
		return nil, nil, s.fault(c, err)
	}
	action, result = L.Get(-2), L.Get(-1)
	return action, result, s.fault(c, nil)
}

// fault is err as the log shall have it: without Lua's stack of calls, without
// the password. A budget that is used up counts also where the script caught
// the error.
func (s *state) fault(c *modules.Call, err error) error {
	if err == nil && s.budget.fault == nil {
		return nil
	}
	text := ""
	if err != nil {
		text = err.Error()
		if api, ok := err.(*lua.ApiError); ok && api.Object != nil { //nolint:errorlint // PCall returns it as it is
			text = api.Object.String()
		} else if i := strings.Index(text, "\nstack traceback"); i >= 0 {
			text = text[:i]
		}
	}
	if s.budget.fault == nil && (strings.HasSuffix(text, "stack overflow") || strings.HasSuffix(text, "registry overflow")) {
		s.budget.fault = errDepth
	}
	if s.budget.fault != nil {
		where, _, ok := strings.Cut(text, ": ")
		if !ok {
			where = c.Script
		}
		return fmt.Errorf("%s: %w", c.Shown(where, 200), s.budget.fault)
	}
	return errors.New(c.Shown(text, 1000))
}
