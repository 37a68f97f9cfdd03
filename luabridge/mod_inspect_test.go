package luabridge

import (
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	for value, want := range map[string]string{
		`{1, 2, 3, 4}`:                      "{ 1, 2, 3, 4 }",
		`{a = 1, b = 2}`:                    "{\n  a = 1,\n  b = 2\n}",
		`{1, 2, 3, b = 2, a = 1}`:           "{ 1, 2, 3,\n  a = 1,\n  b = 2\n}",
		`{a = {b = 2}}`:                     "{\n  a = {\n    b = 2\n  }\n}",
		`{a = {b = {c = 1}}}, {depth = 2}`:  "{\n  a = {\n    b = {...}\n  }\n}",
		`{{}}, {depth = 0}`:                 "{...}",
		`{f = print, g = print, h = error}`: "{\n  f = <function 1>,\n  g = <function 1>,\n  h = <function 2>\n}",
		`setmetatable({a = 1}, {b = 2})`:    "{\n  a = 1,\n  <metatable> = {\n    b = 2\n  }\n}",
		`(function() local a, b = {1, 2}, {3, 4} a[3] = b b[3] = a return a end)()`: "<1>{ 1, 2, { 3, 4, <table 1> } }",
		`{[true] = 1, [0] = 2, ["a b"] = 3, _a1 = 4, [1.5] = 5}`:                    "{\n  [0] = 2,\n  [1.5] = 5,\n  [true] = 1,\n  _a1 = 4,\n  [\"a b\"] = 3\n}",
		`{a = {b = 1}}, {newline = "", indent = ""}`:                                "{a = {b = 1}}",
		`{a = {1}}, {newline = "@", indent = ">"}`:                                  "{@>a = { 1 }@}",
		`{}`: "{}", `nil`: "nil", `true`: "true", `1.5`: "1.5", `"x"`: `"x"`,
		`'a"b'`:             `'a"b'`,
		`"a\"'b"`:           `"a\"'b"`,
		`"\\ \n\t\0001\0x"`: `"\\ \n\t\0001\0x"`,
		`{1, 2, {3, x = 4}}, {process = function(v) if v ~= 2 and v ~= "x" then return v end end}`:                                                                 "{ 1,\n  [3] = { 3 }\n}",
		`{a = {b = "q"}}, {process = function(v, path) if path[#path] ~= inspect.KEY and #path == 2 then return path end return v end, newline = "", indent = ""}`: `{a = {b = { "a", "b" }}}`,
	} {
		v := ask(t, `local inspect = require("inspect")
			assert(inspect(`+value+`) == inspect.inspect(`+value+`))
			nauthilus_builtin.custom_log_add("got", inspect(`+value+`))`, query("alice"))
		if got := v.Logs[0].Value; got != want {
			t.Errorf("%s\n got %q\nwant %q", value, got, want)
		}
	}
	for statement, want := range map[string]string{
		`require("inspect")({}, 1)`:                                                       "bad argument #2 to inspect (table expected, got number): 1",
		`require("inspect")({}, {indent = 1})`:                                            "inspect: the option indent must be a string",
		`local t = {} for i = 1, 200 do t = {t} end require("inspect")(t)`:                "inspect: nested over 100 deep",
		`require("inspect")({1}, {process = function() return {{}} end})`:                 "inspect: nested over 100 deep",
		`require("inspect")({1}, {process = function() error("own", 0) end})`:             "own",
		`require("inspect")({1}, {process = function(v) return v == 1 and 0/0 or v end})`: "inspect: process made a key that is no number",
	} {
		if got := luaError(t, statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	// What is shown is paid for.
	d := newDirector(t, inFilter(`local t = {} for i = 1, 90 do t = {a = t} end require("inspect")(t, {indent = ("x"):rep(1e5)})`))
	if f := askFault(t, d, query("alice")); !strings.Contains(f.Error(), "budget of memory") {
		t.Error(f)
	}
}
