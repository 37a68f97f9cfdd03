package modules

import (
	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// serverFields are what a server has besides the fields that never change:
// the host's weight and tags as this request sees them, and how many users are
// assigned to it. They are asked for by the metatable of the prepared fields,
// so that those cost nothing more.
func serverFields(L *lua.LState, s *proxy.Server) *lua.LTable {
	id := proxy.CanonicalHost(s.Host)
	// Without an environment: the table is all states', and outlives them.
	index := &lua.LFunction{IsG: true, GFunction: func(L *lua.LState) int {
		c, v := CallOf(L), lua.LNil
		name, _ := L.Get(2).(lua.LString)
		switch name {
		case "weight":
			v = lua.LNumber(s.Weight)
			if h := c.Query.View.Host(id); h != nil {
				v = lua.LNumber(h.Weight)
			}
		case "tags":
			tags := s.Tags
			if h := c.Query.View.Host(id); h != nil {
				tags = h.Tags
			}
			take(L, 2+len(tags), 64+32*len(tags))
			t := L.CreateTable(len(tags), 0)
			for _, tag := range tags {
				t.Append(lua.LString(tag))
			}
			v = t
		case "assigned":
			take(L, 5, 0)
			v = lua.LNumber(c.assignedTo(id))
		}
		L.Push(v)
		return 1
	}}
	return Sealed(L, index)
}
