package lualib

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// OpenMath makes math out of gopher-lua's functions. Texts count as numbers, but
// not long ones.
func OpenMath(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	ours := L.CreateTable(0, 32)
	theirs.ForEach(func(k, v lua.LValue) {
		if f, ok := v.(*lua.LFunction); ok {
			v = L.NewFunction(func(L *lua.LState) int {
				for i := 1; i <= L.GetTop(); i++ {
					if s, ok := L.Get(i).(lua.LString); ok && len(s) > maxNumber {
						L.TypeError(i, lua.LTNumber)
					}
				}
				return f.GFunction(L)
			})
		}
		ours.RawSet(k, v)
	})
	ours.RawSetString("huge", lua.LNumber(math.Inf(1)))
	return ours
}
