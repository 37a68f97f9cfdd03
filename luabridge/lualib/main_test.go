package lualib

import (
	"context"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/goleak"

	"usher/luabridge/budget"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plenty is a budget that no test uses up by accident.
var plenty = budget.Limits{Steps: 1 << 40, Memory: 1 << 30, Time: time.Minute}

// newLua makes a state with the libraries of this package, and what they leave
// out of gopher-lua's.
func newLua(t testing.TB, limits budget.Limits) (*lua.LState, *budget.Budget) {
	t.Helper()
	L := lua.NewState(Options)
	t.Cleanup(L.Close)
	b := new(budget.Budget)
	budget.Attach(L, b)
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenMath, lua.OpenCoroutine, lua.OpenOs} {
		open(L)
	}
	L.SetTop(0)
	globals := L.G.Global
	for name, f := range OpenBase(globals) {
		globals.RawSetString(name, L.NewFunction(f))
	}
	str := OpenString(L)
	mt := L.NewTable()
	mt.RawSetString("__index", str)
	L.SetMetatable(lua.LString(""), mt)
	lib := func(name string) *lua.LTable { return globals.RawGetString(name).(*lua.LTable) }
	globals.RawSetString("table", OpenTable(L, lib("table")))
	globals.RawSetString("math", OpenMath(L, lib("math")))
	globals.RawSetString("coroutine", OpenCoroutine(L, lib("coroutine")))
	osLib := OpenOs(L, lib("os"))
	osLib.RawSetString("setlocale", L.NewFunction(func(*lua.LState) int { return 0 }))
	globals.RawSetString("os", osLib)
	globals.RawSetString("string", str)
	globals.RawSetString("print", L.NewFunction(func(*lua.LState) int { return 0 }))
	b.Start(context.Background(), limits, time.Now())
	return L, b
}

// do runs Lua source.
func do(L *lua.LState, source string) error {
	proto, err := Compile("test", source)
	if err != nil {
		return err
	}
	L.Push(L.NewFunctionFromProto(proto))
	return L.PCall(0, lua.MultRet, nil)
}
