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
	Doc: "What the scripts of one request tell each other: features, password drivers and filters, in their order. It ends with the request. " +
		"Tables are copied both ways; a function or userdata becomes text.",
	Funcs: []Func{
		{
			Name: "context_set", Do: contextSet,
			Sig: `(key: string|number, value: any)`,
			Doc: "Keeps a value for the scripts after this one; nil removes it. A request keeps 1000 values at most, keys have 1024 bytes at most.",
			Example: `local context = require("nauthilus_context")
context.context_set("site", {name = "north"})
print(context.context_get("site").name) --> north`,
		},
		{
			Name: "context_get", Do: contextGet,
			Sig: `(key: string|number) -> value: any`,
			Doc: "Returns the value, of a table a copy; nil if there is none.",
			Example: `local context = require("nauthilus_context")
context.context_set("tries", 3)
print(context.context_get("tries"), context.context_get("other")) --> 3 nil`,
		},
		{
			Name: "context_delete", Do: contextDelete,
			Sig: `(key: string|number)`,
			Doc: "Removes a value; one that is not there does nothing.",
			Example: `local context = require("nauthilus_context")
context.context_set("tries", 3)
context.context_delete("tries")
print(context.context_get("tries")) --> nil`,
		},
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
