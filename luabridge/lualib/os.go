package lualib

import (
	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// OpenOs makes what policies have of os: the time.
func OpenOs(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	ours := L.CreateTable(0, 5)
	for _, name := range []string{"clock", "difftime", "time"} {
		ours.RawSetString(name, theirs.RawGetString(name))
	}
	date := theirs.RawGetString("date").(*lua.LFunction).GFunction
	ours.RawSetString("date", L.NewFunction(func(L *lua.LState) int {
		// Two characters, %c, become twenty.
		n := len(L.OptString(1, ""))
		b := budget.Of(L)
		b.Alloc(L, 512+40*n)
		b.Work(L, 10+4*n)
		return date(L)
	}))
	return ours
}
