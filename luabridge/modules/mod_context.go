package modules

import (
	lua "github.com/yuin/gopher-lua"
)

// maxContext bounds how many values one request keeps.
const maxContext = 1000

// contextModule is nauthilus_context: one map a request, which all its scripts
// see. Tables are copied both ways; what cannot be copied becomes text.
var contextModule = Module{
	Name: "nauthilus_context", Global: true,
	Funcs: []Func{
		{Name: "context_set", Do: contextSet},
		{Name: "context_get", Do: contextGet},
		{Name: "context_delete", Do: contextDelete},
	},
}

func contextSet(L *lua.LState) int {
	key := key(L, "context_set")
	v := L.CheckAny(2)
	c := CallOf(L)
	if v == lua.LNil {
		delete(*c.Context, key)
		return 0
	}
	if _, known := (*c.Context)[key]; !known && len(*c.Context) >= maxContext {
		L.RaiseError("context_set: a request keeps %d values at most", maxContext)
	}
	take(L, 10, 128+len(key))
	if *c.Context == nil {
		*c.Context = map[string]lua.LValue{}
	}
	cp := copier{L: L, text: true}
	(*c.Context)[key] = cp.value(v, 0)
	return 0
}

// contextGet returns the value, or nil.
func contextGet(L *lua.LState) int {
	v, ok := (*CallOf(L).Context)[key(L, "context_get")]
	if !ok {
		v = lua.LNil
	}
	cp := copier{L: L}
	L.Push(cp.value(v, 0))
	return 1
}

func contextDelete(L *lua.LState) int {
	delete(*CallOf(L).Context, key(L, "context_delete"))
	return 0
}

// maxKey is the longest key of nauthilus_context and nauthilus_cache, in bytes.
const maxKey = 1024

// key is the first argument: a text, or a number as text.
func key(L *lua.LState, function string) string {
	switch v := L.Get(1).(type) {
	case lua.LString:
		if len(v) > maxKey {
			L.RaiseError("bad argument #1 to %s (a key of %d bytes, at most %d)", function, len(v), maxKey)
		}
		return string(v)
	case lua.LNumber:
		return number(v)
	}
	argError(L, 1, function, "string")
	return ""
}
