package modules

import (
	"math"
	"strconv"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// number writes a Lua number as people do: whole numbers without exponent.
func number(n lua.LNumber) string {
	f := float64(n)
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', 14, 64)
}

// TypeOf is the name of a userdata's type, as it stands in its metatable.
func TypeOf(ud *lua.LUserData) (string, bool) {
	mt, ok := ud.Metatable.(*lua.LTable)
	if !ok {
		return "", false
	}
	name, ok := mt.RawGetString("__name").(lua.LString)
	return string(name), ok
}

// each calls f for the elements of a table, in the order in which a script put
// them in. LTable.ForEach has texts in random order.
func each(L *lua.LState, t *lua.LTable, f func(k, v lua.LValue)) {
	b := budget.Of(L)
	for k, v := b.Next(L, t, lua.LNil); k != lua.LNil; k, v = b.Next(L, t, k) {
		b.Work(L, 1)
		f(k, v)
	}
}

// Sealed makes a metatable that scripts can neither see nor replace.
func Sealed(L *lua.LState, index lua.LValue) *lua.LTable {
	mt := L.CreateTable(0, 2)
	if index != nil {
		mt.RawSetString("__index", index)
	}
	mt.RawSetString("__metatable", lua.LFalse)
	return mt
}
