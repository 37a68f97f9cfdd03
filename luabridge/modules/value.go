package modules

import (
	"math"
	"strconv"
	"strings"

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

// numberOf is a number, or that of a text: what scripts read of the environment
// or of Redis is text, and Nauthilus takes it.
func numberOf(v lua.LValue) (lua.LNumber, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return v, true
	case lua.LString:
		if len(v) > maxNumber {
			return 0, false
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(string(v)), 64)
		return lua.LNumber(f), err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

// maxNumber is the longest text that is read as a number, in bytes.
const maxNumber = 64

// textOf is a text, or a number as Lua writes it, as Nauthilus takes both.
func textOf(v lua.LValue) (lua.LString, bool) {
	switch v := v.(type) {
	case lua.LString:
		return v, true
	case lua.LNumber:
		return lua.LString(v.String()), true
	}
	return "", false
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
