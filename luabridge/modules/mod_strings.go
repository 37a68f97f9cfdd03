package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const stringsExample = "local strings = require(\"strings\")\n"

// stringsModule is strings, as github.com/vadv/gopher-lua-libs has it.
var stringsModule = Module{
	Name: "strings",
	Doc:  "What Lua's own `string` has not: texts are taken as they stand, without patterns. The readers and builders of gopher-lua-libs are left out.",
	Funcs: []Func{
		{Name: "split", Do: stringsSplit,
			Sig: `(text: string, separator?: string) -> parts: string[]`, Doc: "The parts between the separators; without one, or with `\"\"`, the characters (UTF-8).",
			Example: stringsExample + "print(strings.split(\"alice@example.org\", \"@\")[2]) --> example.org"},
		{Name: "fields", Do: func(L *lua.LState) int {
			text := checkText(L, 1, "fields")
			take(L, len(text)/4, 16*len(text))
			return pushParts(L, strings.Fields(text))
		},
			Sig: `(text: string) -> parts: string[]`, Doc: "The parts between white space.",
			Example: stringsExample + "print(strings.fields(\" a  b \")[2]) --> b"},
		ofTwo("has_prefix", "prefix", "Whether a text begins with another.", strings.HasPrefix, `"alice", "al"`, "true"),
		ofTwo("has_suffix", "suffix", "Whether a text ends with another.", strings.HasSuffix, `"alice@example.org", ".org"`, "true"),
		ofTwo("contains", "part", "Whether a text has another in it.", strings.Contains, `"alice@example.org", "@"`, "true"),
		trimmed("trim", "cutset", "A text without the characters of the second at both its ends.", strings.Trim, `"--a--", "-"`, "a"),
		trimmed("trim_prefix", "prefix", "A text without another before it, if it stands there.", strings.TrimPrefix, `"usher-1", "usher-"`, "1"),
		trimmed("trim_suffix", "suffix", "A text without another behind it, if it stands there.", strings.TrimSuffix, `"a.example.org", ".example.org"`, "a"),
		{Name: "trim_space", Do: func(L *lua.LState) int {
			text := checkText(L, 1, "trim_space")
			take(L, len(text)/16, len(text))
			L.Push(lua.LString(strings.TrimSpace(text)))
			return 1
		},
			Sig: `(text: string) -> text: string`, Doc: "A text without white space at its ends.",
			Example: stringsExample + "print(strings.trim_space(\" a \")) --> a"},
	},
}

// maxParts bounds the parts of a text.
const maxParts = 65_536

func stringsSplit(L *lua.LState) int {
	text, separator := checkText(L, 1, "split"), ""
	if L.Get(2) != lua.LNil {
		separator = checkText(L, 2, "split")
	}
	parts := len(text)
	if separator != "" {
		parts = strings.Count(text, separator) + 1
	}
	take(L, len(text)/4, 0)
	if parts > maxParts {
		L.RaiseError("split: over %d parts", maxParts)
	}
	take(L, parts, 16*parts)
	return pushParts(L, strings.Split(text, separator))
}

func pushParts(L *lua.LState, parts []string) int {
	take(L, 2*len(parts), 96+56*len(parts))
	t := L.CreateTable(len(parts), 0)
	for _, p := range parts {
		t.Append(lua.LString(p))
	}
	L.Push(t)
	return 1
}

func ofTwo(name, second, doc string, do func(text, other string) bool, args, result string) Func {
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			text, other := checkText(L, 1, name), checkText(L, 2, name)
			take(L, (len(text)+len(other))/16, 0)
			L.Push(lua.LBool(do(text, other)))
			return 1
		},
		Sig: "(text: string, " + second + ": string) -> yes: boolean", Doc: doc,
		Example: stringsExample + "print(strings." + name + "(" + args + ")) --> " + result,
	}
}

func trimmed(name, second, doc string, do func(text, other string) string, args, result string) Func {
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			text, other := checkText(L, 1, name), checkText(L, 2, name)
			// Each character at an end is looked for in the whole of the second.
			if name == "trim" && len(other) > maxCutset {
				L.RaiseError("bad argument #2 to trim: %d characters, at most %d", len(other), maxCutset)
			}
			take(L, len(text)+len(other)/16, len(text))
			L.Push(lua.LString(do(text, other)))
			return 1
		},
		Sig: "(text: string, " + second + ": string) -> text: string", Doc: doc,
		Example: stringsExample + "print(strings." + name + "(" + args + ")) --> " + result,
	}
}

// maxCutset is how many characters trim looks for at most.
const maxCutset = 64
