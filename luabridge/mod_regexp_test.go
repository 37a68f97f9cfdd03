package luabridge

import (
	"regexp"
	"strings"
	"testing"
)

func TestRegexp(t *testing.T) {
	ask(t, `
		local regexp = require("regexp")
		local re, err = regexp.compile("(a)(b)?")
		assert(err == nil and re:match("xa") and not re:match("b"))
		local found = re:find_all_string_submatch("ab a")
		assert(#found == 2 and found[1][1] == "ab" and found[1][3] == "b" and found[2][2] == "a" and found[2][3] == "")
		assert(#re:find_all_string_submatch("x") == 0)
		assert(#regexp.find_all_string_submatch("^a", "aaa") == 1 and #regexp.find_all_string_submatch("\\ba", "aa a") == 2)
		assert(#regexp.find_all_string_submatch("\\Qa.", "a.a.") == 2)
		assert(regexp.match("^a.c$", "abc") == true and regexp.match("^a.c$", "abcd") == false)
		for _, f in ipairs{regexp.match, regexp.find_all_string_submatch, regexp.compile} do
			local got, err = f("(", "x")
			assert(got == nil and type(err) == "string")
			assert(f(("a"):rep(513), "x") == nil and f("(a{100}){9}{9}", "x") == nil and f("(.{50}){30}", "x") == nil)
		end`, query("alice"))
	for statement, want := range map[string]string{
		`require("regexp").match("a")`:                                                           "bad argument #2 to match (string expected, got no value)",
		`require("regexp").compile({})`:                                                          "bad argument #1 to compile (string expected, got table)",
		`require("regexp").compile("a").match("a", "a")`:                                         "bad argument #1 to match (regexp_ud expected, got string): \"a\"",
		`require("regexp").compile("a"):match()`:                                                 "bad argument #2 to match (string expected, got no value)",
		`assert(require("regexp").match("a", nil) == "x")`:                                       "bad argument #2 to match (string expected, got nil)",
		`local r = require("regexp") for i = 1, 400 do r.compile("a" .. i) end error("went", 0)`: "went",
	} {
		if got := luaError(t, statement, func(o *Options) { o.Limits.Steps, o.Limits.Memory = 1<<30, 1<<30 }); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// An expression that looks through all the text at each place is stopped.
func TestRegexp_Budget(t *testing.T) {
	d := newDirector(t, inFilter(`require("regexp").find_all_string_submatch("a|a*b", ("a"):rep(1e5))`))
	if f := askFault(t, d, query("alice")); !strings.Contains(f.Error(), "budget of") && !strings.Contains(f.Error(), "deadline") {
		t.Error(f)
	}
}

// What is found is what Go's own function finds.
func FuzzRegexp(f *testing.F) {
	for _, s := range [][2]string{{"a*", "baaac"}, {`\b`, "ab cd"}, {`(?m)^.`, "a\nb\n"}, {"(a)|(b)", "xab"}, {"", "日本\xff"}, {`\Qa`, "aa"}, {"(?i)K", "kK\u212a"}, {`^`, "aa"}, {"$", "a\n"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		re, err := regexp.Compile(expression)
		if err != nil || len(expression) > 40 || len(text) > 40 {
			return
		}
		var want strings.Builder
		for _, row := range re.FindAllStringSubmatch(text, -1) {
			want.WriteString("[" + strings.Join(row, "|") + "]")
		}
		ask(t, `
			local found = require("regexp").find_all_string_submatch(`+luaText(expression)+`, `+luaText(text)+`)
			if not found then return end
			local out = ""
			for _, row in ipairs(found) do out = out .. "[" .. table.concat(row, "|") .. "]" end
			assert(out == `+luaText(want.String())+`, "differs")`, query("alice"), func(o *Options) { o.Limits.Steps, o.Limits.Memory = 1<<30, 1<<30 })
	})
}

// luaText writes a text as Lua has it.
func luaText(s string) string {
	const digits = "0123456789"
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		b.Write([]byte{'\\', digits[c/100], digits[c/10%10], digits[c%10]})
	}
	b.WriteByte('"')
	return b.String()
}
