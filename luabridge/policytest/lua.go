package policytest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
	"usher/luabridge/lualib"
)

// testLimits are what one test, or the reading of one file, may use.
var testLimits = budget.Limits{Steps: 50_000_000, Memory: 512 << 20, Time: 20 * time.Second}

// hints show values in errors of tests, which have no secrets.
type hints struct{}

// Missing implements budget.Hints.
func (hints) Missing(lua.LValue, string) (owner, nearest string) { return "", "" }

// Shown implements budget.Hints.
func (hints) Shown(text string, most int) string { return text[:min(len(text), most)] }

// newLua makes the state of a test file: policies' libraries, without require.
func newLua(b *budget.Budget) *lua.LState {
	L := lua.NewState(lualib.Options)
	budget.Attach(L, b)
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenMath, lua.OpenCoroutine, lua.OpenOs} {
		open(L)
	}
	L.SetTop(0)
	all := L.G.Global
	for name, f := range lualib.OpenBase(all) {
		all.RawSetString(name, L.NewFunction(f))
	}
	for _, name := range []string{"collectgarbage", "dofile", "getfenv", "loadfile", "module", "newproxy", "require", "setfenv", "_printregs"} {
		all.RawSetString(name, lua.LNil)
	}
	str := lualib.OpenString(L)
	mt := L.NewTable()
	mt.RawSetString("__index", str)
	L.SetMetatable(lua.LString(""), mt)
	lib := func(name string) *lua.LTable { return all.RawGetString(name).(*lua.LTable) }
	all.RawSetString("string", str)
	all.RawSetString("table", lualib.OpenTable(L, lib("table")))
	all.RawSetString("math", lualib.OpenMath(L, lib("math")))
	all.RawSetString("coroutine", lualib.OpenCoroutine(L, lib("coroutine")))
	all.RawSetString("os", lualib.OpenOs(L, lib("os")))
	return L
}

// call runs a function of the test's with a budget of its own.
func (s *suite) call(ctx context.Context, f *lua.LFunction) error {
	s.budget.Start(ctx, testLimits, time.Now())
	s.ctx = ctx
	err := s.L.CallByParam(lua.P{Fn: f, NRet: 0, Protect: true})
	if fault := s.budget.Fault(); fault != nil && err != nil {
		position := ""
		if m := place.FindString(errorText(err)); m != "" {
			position = m
		}
		err = fmt.Errorf("%s%w", position, budgetFault(fault))
	}
	s.L.SetTop(0)
	return err
}

// budgetFault says what was used up without naming settings, of which tests have
// none.
func budgetFault(fault error) error {
	for _, which := range []error{budget.ErrSteps, budget.ErrMemory, budget.ErrDeadline, budget.ErrDepth, budget.ErrThreads} {
		if errors.Is(fault, which) {
			return fmt.Errorf("the test does not end: %w", which)
		}
	}
	return fault
}

// place is where an error text says that it is from.
var place = regexp.MustCompile(`^[^\n]*?:\d+: `)

// find is Lua's string.find.
func (s *suite) find(text, pattern lua.LString) bool {
	f := s.L.GetField(s.L.GetGlobal("string"), "find")
	s.L.Push(f)
	s.L.Push(text)
	s.L.Push(pattern)
	s.L.Call(2, 1)
	found := s.L.Get(-1) != lua.LNil
	s.L.Pop(1)
	return found
}

// A failure is an expectation that was not met. It goes through Lua as an error.
type failure struct {
	where   string // FILE:LINE
	message string
	trace   []string
}

// Error implements error.
func (f *failure) Error() string { return f.message }

// errorText is what a Lua error says.
func errorText(err error) string {
	var api *lua.ApiError
	if !errors.As(err, &api) {
		return err.Error()
	}
	if api.Object == nil || api.Object == lua.LNil {
		return err.Error()
	}
	if ud, ok := api.Object.(*lua.LUserData); ok {
		if f, ok := ud.Value.(*failure); ok {
			return f.where + ": " + f.message
		}
	}
	if t, ok := api.Object.(*lua.LTable); ok {
		return show(t)
	}
	return api.Object.String()
}

// failureOf makes a failure of what a test raised.
func failureOf(err error) *failure {
	var api *lua.ApiError
	if errors.As(err, &api) {
		if ud, ok := api.Object.(*lua.LUserData); ok {
			if f, ok := ud.Value.(*failure); ok {
				return f
			}
		}
	}
	text := errorText(err)
	f := &failure{message: text}
	if m := place.FindString(text); m != "" {
		f.where, f.message = strings.TrimSuffix(m, ": "), text[len(m):]
	}
	return f
}
