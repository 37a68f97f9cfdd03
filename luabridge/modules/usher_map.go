package modules

import (
	"context"
	"errors"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/maps"
)

const mapType = "usher_map"

var mapTypes = Type{
	Name: mapType, Call: mapGet,
	Doc: "A file of keys and values, as `usher.map` returns it. `m(key, default)` is the same as `m:get(key, default)`.",
	Methods: []Func{{
		Name: "get", Do: mapGet,
		Sig: "(key: string, default?: any) -> value: any",
		Doc: "Returns the value of the line for a key, as a string; where there is none, the default, or nil. An exact line goes before a suffix, the longest suffix first, and both before a regular expression, the first one first; an address has its longest prefix. Case does not matter. A key is 1024 bytes at most; longer ones are in no line.",
		Example: `local usher = require("usher")
local moved = usher.map("moved.map")
print(moved:get("alice@example.org")) --> 192.0.2.12
print(moved("carol@example.org", "192.0.2.11")) --> 192.0.2.11`,
	}},
}

// usherMap(file) returns the map of a file.
func usherMap(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "map", "string")
	}
	c := CallOf(L)
	if c.Maps == nil {
		L.RaiseError("usher.map: there are no maps here")
	}
	take(L, 20+min(len(name), maxFileName)/8, 256)
	m := c.Maps.Ready(c.Dir, string(name))
	if m == nil {
		m = c.openMap(L, string(name))
	}
	L.Push(newObject(L, mapType, m))
	return 1
}

// openMap opens a map that may have to be read first. What goes wrong it raises.
func (c *Call) openMap(L *lua.LState, name string) *maps.Map {
	take(L, 200, 2048)
	ctx, cancel := context.WithDeadline(c.Ctx, c.End)
	defer cancel()
	m, err := c.Maps.Open(ctx, c.Dir, name)
	if err != nil {
		if loading := (*maps.Loading)(nil); errors.As(err, &loading) {
			c.Loading = loading.Done
		}
		L.RaiseError("usher.map: %s", c.Shown(err.Error(), MaxText))
	}
	return m
}

// maxFileName is how much of a file's name is looked at, in bytes.
const maxFileName = 1024

// mapGet is m:get(key[, default]), and m(key[, default]).
func mapGet(L *lua.LState) int {
	ud, ok := L.Get(1).(*lua.LUserData)
	var m *maps.Map
	if ok {
		m, ok = ud.Value.(*maps.Map)
	}
	if !ok {
		argError(L, 1, "get", mapType)
	}
	key, ok := L.Get(2).(lua.LString)
	if !ok {
		argError(L, 2, "get", "string")
	}
	t := m.Table()
	take(L, t.Cost(len(key)), 0)
	hit, found := t.Get(string(key))
	c := CallOf(L)
	if c.tracing() {
		if found {
			c.trace("map %s: %s -> %s (line %d)", m.Path(), c.Shown(string(key), 80), c.Shown(string(hit.Value()), 80), hit.Line())
		} else {
			c.trace("map %s: %s is not there", m.Path(), c.Shown(string(key), 80))
		}
	}
	if !found {
		L.Push(L.Get(3))
		return 1
	}
	value := hit.Value()
	take(L, len(value)/64, 16+len(value))
	L.Push(lua.LString(value))
	return 1
}
