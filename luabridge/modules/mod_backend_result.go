package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const resultType = "nauthilus_backend_result"

// A backendResult is what nauthilus_backend_result.new returns.
type backendResult struct {
	flags      [2]bool
	texts      [5]string
	attributes []attribute // in the order of the table they came from
}

type attribute struct {
	name  string
	value lua.LValue // string, number, boolean, or a table of our own
}

// The methods that set or get a flag or a text, by their place in
// backendResult.
var (
	resultFlags = [...]string{"authenticated", "user_found"}
	resultTexts = [...]string{"account_field", "totp_secret_field", "totp_recovery_field", "unique_user_id_field", "display_name_field"}
)

// backendResultModule is nauthilus_backend_result. Its new takes the module too,
// for scripts that call it with a colon.
var backendResultModule = Module{
	Name: "nauthilus_backend_result", Global: true,
	Doc: "Makes results: what `nauthilus_backend.apply_backend_result` takes, of which only the attributes count there, and what a password driver returns.",
	Funcs: []Func{{
		Name: "new", Do: newResult,
		Sig: "() -> result: nauthilus_backend_result",
		Doc: "Returns an empty result. `nauthilus_backend_result:new()` is the same.",
		Example: `local result = nauthilus_backend_result.new()
result:attributes({nopassword = true})
nauthilus_backend.apply_backend_result(result)`,
	}},
	Types: []Type{{
		Name: resultType,
		Doc:  "A result. Each method sets with an argument, and returns nothing then; without one it gets.",
		Methods: []Func{
			{
				Name: "attributes", Do: resultAttributes,
				Sig:   "() -> attributes: table<string, any>",
				Forms: []string{"(attributes: table<string, any>)"},
				Doc: "The attributes by name, each a text, a number, a boolean or a list; a copy both ways. Setting replaces all; 256 are kept at most, and names that are no texts are dropped. " +
					"One that was never set has `{}`.",
				Example: `local result = nauthilus_backend_result.new()
result:attributes({quota = 1000000, lists = {"a", "b"}})
local attributes = result:attributes()
print(attributes.quota, attributes.lists[2], attributes.other) --> 1000000 b nil`,
			},
			flagMethod(0, "The password was right. A password driver must say so; in filters it does nothing."),
			flagMethod(1, "There is such a user. Without it, a password driver lets the next one be asked; in filters it does nothing."),
			textMethod(0, "The name of the attribute that is the user's account. A password driver must set it."),
			textMethod(1, "Nauthilus' field of the TOTP secret; usher keeps the text, and does nothing with it."),
			textMethod(2, "Nauthilus' field of the TOTP recovery codes; usher keeps the text, and does nothing with it."),
			textMethod(3, "Nauthilus' field of the user's id; usher keeps the text, and does nothing with it."),
			textMethod(4, "Nauthilus' field of the name that people read; usher keeps the text, and does nothing with it."),
		},
	}},
}

func flagMethod(i int, doc string) Func {
	name := resultFlags[i]
	return Func{
		Name: name, Do: func(L *lua.LState) int { return resultFlag(L, name, i) },
		Sig: "() -> " + name + ": boolean", Forms: []string{"(" + name + ": boolean)"},
		Doc: doc + " False until it is set.",
		Example: `local result = nauthilus_backend_result.new()
result:` + name + `(true)
print(result:` + name + `()) --> true`,
	}
}

func textMethod(i int, doc string) Func {
	name := resultTexts[i]
	return Func{
		Name: name, Do: func(L *lua.LState) int { return resultText(L, name, i) },
		Sig: "() -> name: string", Forms: []string{"(name: string)"},
		Doc: doc + " `\"\"` until it is set.",
		Example: `local result = nauthilus_backend_result.new()
result:` + name + `("` + strings.TrimSuffix(name, "_field") + `")
print(result:` + name + `()) --> ` + strings.TrimSuffix(name, "_field"),
	}
}

func newResult(L *lua.LState) int {
	L.Push(newObject(L, resultType, &backendResult{}))
	return 1
}

// self returns the object, and whether the call sets: with exactly one
// argument it does, else it gets.
func self(L *lua.LState, method string) (res *backendResult, set bool) {
	ud, ok := L.Get(1).(*lua.LUserData)
	if ok {
		res, ok = ud.Value.(*backendResult)
	}
	if !ok {
		argError(L, 1, method, resultType)
	}
	return res, L.GetTop() == 2
}

func resultFlag(L *lua.LState, name string, i int) int {
	res, set := self(L, name)
	if !set {
		L.Push(lua.LBool(res.flags[i]))
		return 1
	}
	v, ok := L.Get(2).(lua.LBool)
	if !ok {
		argError(L, 2, name, "boolean")
	}
	res.flags[i] = bool(v)
	return 0
}

func resultText(L *lua.LState, name string, i int) int {
	res, set := self(L, name)
	if !set {
		L.Push(lua.LString(res.texts[i]))
		return 1
	}
	v, ok := textOf(L.Get(2))
	if !ok {
		argError(L, 2, name, "string")
	}
	res.texts[i] = string(v)
	return 0
}

// resultAttributes sets or gets the attributes: copies both ways. Keys that are
// no strings, and values that are functions or userdata, are dropped.
func resultAttributes(L *lua.LState) int {
	res, set := self(L, "attributes")
	if !set {
		t, c := L.CreateTable(0, len(res.attributes)), copier{L: L}
		for _, a := range res.attributes {
			t.RawSetString(a.name, c.value(a.value, 0))
		}
		L.Push(t)
		return 1
	}
	t, ok := L.Get(2).(*lua.LTable)
	if !ok {
		argError(L, 2, "attributes", "table")
	}
	c := copier{L: L}
	var list []attribute
	each(L, t, func(k, v lua.LValue) {
		name, ok := k.(lua.LString)
		if !ok {
			return
		}
		if v = c.value(v, 0); v != lua.LNil && len(list) < maxChanges {
			list = append(list, attribute{string(name), v})
		}
	})
	res.attributes = list
	return 0
}

// How deep and how large tables are copied. The number matters as much as the
// depth: a table that stands in another eight times, sixteen times over, is
// small in Lua and without end here.
const (
	maxDepth  = 16
	maxValues = 4096
)

// A copier copies values, maxValues at most in all. What is neither text, number,
// boolean nor table is nil in the copy, or text.
type copier struct {
	L      *lua.LState
	text   bool // not nil but text
	own    bool // texts too are copied: a part of a text keeps all of it
	copied int
	bytes  int // of texts
}

func (c *copier) clone(s lua.LString) lua.LString {
	if !c.own {
		return s
	}
	take(c.L, len(s)/64, len(s))
	return lua.LString(strings.Clone(string(s)))
}

func (c *copier) value(v lua.LValue, depth int) lua.LValue {
	if c.copied++; c.copied > maxValues {
		c.L.RaiseError("a table has over %d values", maxValues)
	}
	take(c.L, 4, 128)
	switch v := v.(type) {
	case lua.LString:
		c.bytes += len(v)
		return c.clone(v)
	case lua.LNumber, lua.LBool, *lua.LNilType:
		return v
	case *lua.LTable:
		if depth == maxDepth {
			c.L.RaiseError("a table is nested over %d deep", maxDepth)
		}
		t := c.L.CreateTable(min(v.Len(), maxValues), 0)
		each(c.L, v, func(k, v lua.LValue) {
			switch k := k.(type) {
			case lua.LString:
				c.bytes += len(k)
				if v = c.value(v, depth+1); v != lua.LNil {
					t.RawSetString(string(c.clone(k)), v)
				}
			case lua.LNumber, lua.LBool:
				if v = c.value(v, depth+1); v != lua.LNil {
					t.RawSet(k, v)
				}
			default: // a key that others could change
			}
		})
		return t
	}
	if c.text {
		return lua.LString(v.String())
	}
	return lua.LNil
}
