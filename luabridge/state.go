package luabridge

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"usher/internal/nearest"
	"usher/luabridge/budget"
	"usher/luabridge/lualib"
	"usher/luabridge/modules"
)

// A state is one Lua state with what scripts of all requests share: functions,
// which they cannot change, and library tables that they never get hold of.
// Each request gets an environment of its own; library tables and modules
// appear in it as empty tables in front of the shared ones, so that whatever a
// script writes into them is gone with the request.
type state struct {
	L      *lua.LState
	budget budget.Budget
	call   *modules.Call // whom it works for

	buf   modules.Call // what call points to, but for probes
	notes notes        // of the present request

	envMeta  *lua.LTable            // of each request's globals
	fronts   map[string]*lua.LTable // by name: the metatable of a library's front
	global   map[string]bool        // those of fronts that are globals too
	loaded   map[*script]*loaded
	director *Director

	stringMeta *lua.LTable // of texts
	ownStrings bool        // the present request has given texts another one
}

// loaded is a script as a state has it.
type loaded struct {
	chunk    *lua.LFunction // which no script gets hold of; its environment is the request's
	requests *modules.Requests
	modules  []string // that it reads as globals
}

func (s *state) load(sc *script) *loaded {
	l := &loaded{chunk: s.L.NewFunctionFromProto(sc.proto), requests: modules.NewRequests(s.L, sc.texts)}
	for _, name := range sc.globals {
		if s.global[name] {
			l.modules = append(l.modules, name)
		}
	}
	return l
}

func newState(d *Director) *state {
	L := lua.NewState(lualib.Options)
	s := &state{L: L, director: d, fronts: map[string]*lua.LTable{}, global: map[string]bool{}, loaded: map[*script]*loaded{}}
	s.budget.Hints = s
	s.budget.Clock = d.opt.Deps.Clock
	budget.Attach(L, &s.budget)

	all := L.G.Global
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenMath, lua.OpenCoroutine, lua.OpenOs} {
		open(L)
	}
	L.SetTop(0)
	lib := func(name string) *lua.LTable { return all.RawGetString(name).(*lua.LTable) }

	str := lualib.OpenString(L)
	// Methods of texts go by a metatable of which scripts see nothing.
	s.stringMeta = modules.Sealed(L, str)
	L.SetMetatable(lua.LString(""), s.stringMeta)
	mathLib := lualib.OpenMath(L, lib(lua.MathLibName))
	mathLib.RawSetString("random", L.NewFunction(modules.Random))
	mathLib.RawSetString("randomseed", L.NewFunction(modules.RandomSeed))
	osLib := lualib.OpenOs(L, lib(lua.OsLibName))
	osLib.RawSetString("getenv", L.NewFunction(s.getenv))

	s.fronts[lua.StringLibName] = modules.Sealed(L, str)
	s.fronts[lua.StringLibName].RawSetString("__newindex", L.NewFunction(s.setStringMethod))
	s.fronts[lua.TabLibName] = modules.Sealed(L, lualib.OpenTable(L, lib(lua.TabLibName)))
	s.fronts[lua.MathLibName] = modules.Sealed(L, mathLib)
	s.fronts[lua.CoroutineLibName] = modules.Sealed(L, lualib.OpenCoroutine(L, lib(lua.CoroutineLibName)))
	s.fronts[lua.OsLibName] = modules.Sealed(L, osLib)
	for _, m := range modules.All {
		if m.Global {
			s.global[m.Name] = true
		}
	}

	for _, name := range []string{lua.StringLibName, lua.TabLibName, lua.MathLibName, lua.CoroutineLibName, lua.OsLibName} {
		s.global[name] = true
	}

	base := s.base(all)
	base.Metatable = modules.Sealed(L, L.NewFunction(s.missingGlobal))
	s.envMeta = modules.Sealed(L, base)
	return s
}

// base makes the base library of policies. What reaches files, other
// environments, bytecode or the collector is out.
func (s *state) base(all *lua.LTable) *lua.LTable {
	L := s.L
	funcs := lualib.OpenBase(all)
	// What walks or changes a table as it is must see it whole. Other values than
	// tables are refused here: by itself gopher-lua lets scripts set the
	// metatable of all numbers, booleans or functions, for good.
	filled := func(f lua.LGFunction) lua.LGFunction {
		return func(L *lua.LState) int {
			s.fill(L, L.CheckTable(1))
			return f(L)
		}
	}
	theirs := func(name string) lua.LGFunction { return all.RawGetString(name).(*lua.LFunction).GFunction }
	next, step := L.NewFunction(filled(funcs["next"])), L.NewFunction(nextIndex)
	for name, f := range map[string]lua.LGFunction{
		"rawget":       filled(funcs["rawget"]),
		"rawset":       filled(funcs["rawset"]),
		"setmetatable": filled(theirs("setmetatable")),
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
		funcs[name] = f
	}
	base := L.SetFuncs(L.CreateTable(0, len(funcs)+2), funcs)
	base.RawSetString("next", next)
	base.RawSetString("_VERSION", lua.LString(lua.LuaVersion))
	return base
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
	case t == c.Request:
		c.Fill(L, t)
	case mt == s.envMeta:
		t.Metatable = lua.LNil
		copyMissing(t, mt.RawGetString("__index").(*lua.LTable))
		for name := range s.global {
			if t.RawGetString(name) == lua.LNil {
				t.RawSetString(name, s.own(c, name))
			}
		}
		t.RawSetString("_G", t)
	default:
		name := s.frontName(mt)
		if name == "" {
			return
		}
		t.Metatable = lua.LNil
		copyMissing(t, mt.RawGetString("__index").(*lua.LTable))
		if name == lua.StringLibName {
			s.setStrings(t)
		}
	}
}

// front is the metatable of a library's or module's fronts, or nil when there is
// none of that name. A module's table is made when it is first asked for: few
// scripts need more than a handful, and a state that failed is made anew.
func (s *state) front(name string) *lua.LTable {
	mt := s.fronts[name]
	if mt == nil {
		if m := modules.Named(name); m != nil {
			t := m.Table(s.L)
			mt = modules.Sealed(s.L, t)
			// A module that can be called itself, as inspect.
			if own, ok := t.Metatable.(*lua.LTable); ok {
				mt.RawSetString("__call", own.RawGetString("__call"))
			}
			s.fronts[name] = mt
		}
	}
	return mt
}

// frontName is the name of the library or module that a metatable belongs to.
func (s *state) frontName(mt *lua.LTable) string {
	for name, front := range s.fronts {
		if front == mt {
			return name
		}
	}
	return ""
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
	budget.Of(L).Store(L, t, -1)
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

// getenv reads the variables that director.env names, and no others.
func (s *state) getenv(L *lua.LState) int {
	name := L.CheckString(1)
	if v, set := s.director.opt.Deps.LookupEnv(name); set {
		L.Push(lua.LString(v))
		return 1
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
		b.WriteString(c.Text(L, L.Get(i)))
	}
	c.LogLine(zap.InfoLevel, zap.String("text", b.String()))
	return 0
}

// own returns the script's own table in front of the shared one of that name,
// the same whenever it asks, or nil.
func (s *state) own(c *modules.Call, name string) lua.LValue {
	if v := c.Loaded(name); v != nil {
		return v
	}
	mt := s.front(name)
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
	case s.global[string(name)]:
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
	if len(name) > maxModuleName {
		L.RaiseError("module %q...: not found", c.Shown(name, 64))
	}
	if v := s.own(c, name); v != nil { // the same table as the global of that name
		L.Push(v)
		return 1
	}
	proto, err := s.director.module(name)
	if why := modules.Absent(name); errors.Is(err, errNoModule) && why != "" {
		L.RaiseError("module %q: %s", name, why)
	}
	if err != nil {
		L.RaiseError("module %q: %s", c.Shown(name, 64), err)
	}
	c.SetLoaded(name, lua.LTrue) // for modules that require each other
	done := false
	defer func() {
		if !done {
			c.SetLoaded(name, nil)
		}
	}()
	L.Push(L.NewFunctionFromProto(proto))
	L.Push(lua.LString(name))
	L.Call(1, 1)
	done = true
	v := L.Get(-1)
	if v == lua.LNil {
		v = lua.LTrue
	}
	c.SetLoaded(name, v)
	L.Push(v)
	return 1
}

// maxModuleName is the longest name that require takes, in bytes.
const maxModuleName = 255

// Missing implements budget.Hints.
func (s *state) Missing(of lua.LValue, name string) (owner, near string) {
	var names []string
	left := 100 // keys of a script's own tables that are looked at
	add := func(t *lua.LTable) {
		for k, _ := t.Next(lua.LNil); k != lua.LNil && left > 0; k, _ = t.Next(k) {
			left--
			if k, ok := k.(lua.LString); ok && len(k) <= len(name)+maxSlips && len(name) <= len(k)+maxSlips {
				names = append(names, string(k))
			}
		}
	}
	index := func(mt lua.LValue) {
		if mt, ok := mt.(*lua.LTable); ok {
			if t, ok := mt.RawGetString("__index").(*lua.LTable); ok {
				add(t)
			}
		}
	}
	switch of := of.(type) {
	case nil: // the globals
		add(s.call.Env)
		index(s.envMeta)
		for name := range s.global {
			names = append(names, name)
		}
		slices.Sort(names) // of equals always the same
	case lua.LString:
		owner = lua.StringLibName
		index(s.stringMeta)
	case *lua.LUserData:
		owner, _ = modules.TypeOf(of)
		index(of.Metatable)
	case *lua.LTable:
		add(of)
		if of == s.call.Request {
			owner, names = "request", append(names, modules.RequestFields()...)
		} else if mt, ok := of.Metatable.(*lua.LTable); ok {
			owner = s.frontName(mt)
			index(mt)
		}
	}
	return owner, nearest.Likely(name, names)
}

// maxSlips is how much longer or shorter a name may be than what was meant.
const maxSlips = 10

// Shown implements budget.Hints.
func (s *state) Shown(text string, most int) string { return s.call.Shown(text, most) }

var (
	// position is what an error text begins with: file and line.
	position = regexp.MustCompile(`^[^\n]{0,200}?:[0-9]+: `)
	// overflow is the error of a stack that is full.
	overflow = regexp.MustCompile(`^[^\n]{0,200}?:[0-9]+: (?:stack|registry) overflow$`)
)

// run runs a script's chunk in a fresh environment and then, unless entry is
// empty, its entry function with the request. Each kind of script has up to three
// results, valid until the next run.
func (s *state) run(sc *script, c *modules.Call, entry string) (results [3]lua.LValue, err error) {
	L := s.L
	c.Dir = sc.dir
	env := L.CreateTable(0, 4)
	env.Metatable = s.envMeta
	c.Env = env
	ready := s.loaded[sc]
	if ready == nil {
		ready = s.load(sc)
		s.loaded[sc] = ready
	}
	for _, name := range ready.modules {
		env.RawSetString(name, s.own(c, name))
	}
	s.call, s.budget.Owner = c, c
	L.Env = env
	L.SetTop(0)
	L.G.CurrentThread = L // an error in a wrapped coroutine leaves it there
	if s.ownStrings {
		L.SetMetatable(lua.LString(""), s.stringMeta)
		s.ownStrings = false
	}

	ready.chunk.Env = env
	L.Push(ready.chunk)
	if err := L.PCall(0, 0, nil); err != nil {
		return results, s.fault(c, err)
	}
	if entry == "" {
		return results, s.fault(c, nil)
	}
	f, ok := env.RawGetString(entry).(*lua.LFunction)
	if !ok || f.IsG {
		return results, fmt.Errorf("%s: no function %s", c.Script, entry)
	}
	c.Request = ready.requests.New(L, c)
	L.Push(f)
	L.Push(c.Request)
	if err := L.PCall(1, len(results), nil); err != nil {
		return results, s.fault(c, err)
	}
	for i := range results {
		results[i] = L.Get(i - len(results))
	}
	return results, s.fault(c, nil)
}

// fault is what became of a run as the log shall have it, or nil: without Lua's
// stack of calls, without what is secret. A budget that is used up counts also
// where the script caught the error.
func (s *state) fault(c *modules.Call, err error) error {
	if err == nil && s.budget.Fault() == nil {
		return nil
	}
	text := ""
	if err != nil {
		text = err.Error()
		if api := (*lua.ApiError)(nil); errors.As(err, &api) && api.Object != nil {
			text = api.Object.String()
		} else if i := strings.Index(text, "\nstack traceback"); i >= 0 {
			text = text[:i]
		}
	}
	if overflow.MatchString(text) {
		s.budget.Exceed(lualib.ErrDepth)
	}
	text = c.Shown(text, 1000)
	if fault := s.budget.Fault(); fault != nil {
		where := c.Script
		if m := position.FindString(text); m != "" {
			where = strings.TrimSuffix(m, ": ")
		}
		return fmt.Errorf("%s: %w", where, fault)
	}
	return errors.New(text)
}

// Globals are the names that every script has, and the members of those that are
// Lua's own libraries; modules are in modules.All.
func Globals() map[string][]string {
	s := newState(&Director{opt: Options{Deps: &modules.Deps{}}})
	defer s.L.Close()
	names := map[string][]string{"_G": nil}
	s.envMeta.RawGetString("__index").(*lua.LTable).ForEach(func(k, _ lua.LValue) { names[k.String()] = nil })
	for name := range s.global {
		members := []string{}
		if front := s.fronts[name]; front != nil {
			front.RawGetString("__index").(*lua.LTable).ForEach(func(k, _ lua.LValue) { members = append(members, k.String()) })
			slices.Sort(members)
		}
		names[name] = members
	}
	return names
}
