package modules

import (
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"sync"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

const regexpType = "regexp_ud"

// regexpModule is regexp, as github.com/vadv/gopher-lua-libs has it.
var regexpModule = Module{
	Name: "regexp",
	Doc:  "Regular expressions as Go has them (RE2): no back references. An expression has 512 bytes at most, and 1000 steps when its repetitions are written out.",
	Funcs: []Func{
		{Name: "compile", Do: regexpCompile,
			Sig:     `(expression: string) -> compiled: regexp_ud?, err: string?`,
			Doc:     "Makes an expression ready, for use more than once. nil and a text if it is none.",
			Example: "local regexp = require(\"regexp\")\nlocal digits = regexp.compile(\"^[0-9]+$\")\nprint(digits:match(\"143\")) --> true\nprint((regexp.compile(\"(\"))) --> nil"},
		{Name: "match", Do: func(L *lua.LState) int { return regexpDo(L, "match", regexpMatch) },
			Sig:     `(expression: string, text: string) -> matches: boolean?, err: string?`,
			Doc:     "Whether the expression is found in the text. nil and a text if it is no expression.",
			Example: "local regexp = require(\"regexp\")\nprint(regexp.match(\"@example[.]org$\", request.username)) --> true"},
		{Name: "find_all_string_submatch", Do: func(L *lua.LState) int { return regexpDo(L, "find_all_string_submatch", regexpFind) },
			Sig:     `(expression: string, text: string) -> found: string[][]?, err: string?`,
			Doc:     "All places where the expression is found: of each the text, and what its groups found (`\"\"` for one that found nothing). nil and a text if it is no expression.",
			Example: "local regexp = require(\"regexp\")\nlocal found = regexp.find_all_string_submatch(\"([a-z]+)=([0-9]+)\", \"a=1 b=22\")\nprint(#found, found[2][1], found[2][3]) --> 2\tb=22\t22"},
	},
	Types: []Type{{
		Name: regexpType, Doc: "An expression that regexp.compile made ready.",
		Methods: []Func{
			{Name: "match", Do: func(L *lua.LState) int { return compiledDo(L, "match", regexpMatch) },
				Sig: `(text: string) -> matches: boolean`, Doc: "Whether the expression is found in the text.",
				Example: "local regexp = require(\"regexp\")\nprint(regexp.compile(\"^a\"):match(\"ba\")) --> false"},
			{Name: "find_all_string_submatch", Do: func(L *lua.LState) int { return compiledDo(L, "find_all_string_submatch", regexpFind) },
				Sig: `(text: string) -> found: string[][]`, Doc: "All places where the expression is found, each with its groups.",
				Example: "local regexp = require(\"regexp\")\nprint(regexp.compile(\"b(.)\"):find_all_string_submatch(\"abc\")[1][2]) --> c"},
		},
	}},
}

const (
	maxPattern     = 512  // bytes
	maxPatternSize = 1000 // instructions, about
	maxPatterns    = 256  // kept
)

// A pattern is an expression made ready.
type pattern struct {
	first *regexp.Regexp
	// rest finds further places: it begins at the character before, so that ^ and
	// \b see it.
	rest *regexp.Regexp
	size int
}

// patterns are those made lately, one map a process. Scripts cannot tell.
var patterns = struct {
	sync.Mutex
	made map[string]*pattern
}{made: map[string]*pattern{}}

// compilePattern makes an expression ready, or finds it.
func compilePattern(L *lua.LState, text string) (*pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("an expression of %d bytes, at most %d", len(text), maxPattern)
	}
	take(L, 20, 64)
	patterns.Lock()
	p := patterns.made[text]
	patterns.Unlock()
	if p != nil {
		return p, nil
	}
	take(L, 1000+100*len(text), 4096+1024*len(text))
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := treeSize(tree)
	if size > maxPatternSize {
		return nil, fmt.Errorf("an expression of over %d steps", maxPatternSize)
	}
	take(L, 50*size, 256*size)
	first, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	rest, err := regexp.Compile(`(?s:\A.)(?s:.*?)(` + tree.String() + `)`)
	if err != nil {
		return nil, err
	}
	p = &pattern{first: first, rest: rest, size: size}
	patterns.Lock()
	defer patterns.Unlock()
	if len(patterns.made) >= maxPatterns {
		for old := range patterns.made {
			delete(patterns.made, old)
			break
		}
	}
	patterns.made[string([]byte(text))] = p
	return p, nil
}

// treeSize is about how many instructions an expression has, repetitions written
// out; past the bound any number above it.
func treeSize(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n += len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = min(n+treeSize(sub), maxPatternSize+1)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Max, re.Min+1)
	}
	return min(n, maxPatternSize+1)
}

// A billed text is read character by character, and each is taken for before.
type billed struct {
	L    *lua.LState
	text string
	each int // steps
}

func (b *billed) ReadRune() (rune, int, error) {
	if b.text == "" {
		return 0, 0, io.EOF
	}
	take(b.L, b.each, 0)
	r, n := utf8.DecodeRuneInString(b.text)
	b.text = b.text[n:]
	return r, n, nil
}

// find returns where the groups of the next place at or after pos are, or nil.
func (p *pattern) find(L *lua.LState, text string, pos int) []int {
	take(L, 10+p.size, 256)
	if pos == 0 {
		return p.first.FindReaderSubmatchIndex(&billed{L, text, 4 + p.size})
	}
	_, before := utf8.DecodeLastRuneInString(text[:pos])
	at := p.rest.FindReaderSubmatchIndex(&billed{L, text[pos-before:], 4 + p.size})
	if at == nil {
		return nil
	}
	at = at[2:]
	for i := range at {
		if at[i] >= 0 {
			at[i] += pos - before
		}
	}
	return at
}

func regexpMatch(L *lua.LState, p *pattern, text string) lua.LValue {
	take(L, 10+p.size, 256)
	return lua.LBool(p.first.MatchReader(&billed{L, text, 4 + p.size}))
}

func regexpFind(L *lua.LState, p *pattern, text string) lua.LValue {
	found := L.CreateTable(0, 0)
	take(L, 1, 96)
	for pos, end := 0, -1; pos <= len(text); {
		at := p.find(L, text, pos)
		if at == nil {
			break
		}
		// An empty one right behind another is none.
		if at[0] < at[1] || at[0] != end {
			take(L, len(at), 128+32*len(at))
			row := L.CreateTable(len(at)/2, 0)
			for i := 0; i < len(at); i += 2 {
				group := ""
				if at[i] >= 0 {
					group = text[at[i]:at[i+1]]
				}
				row.Append(lua.LString(group))
			}
			found.Append(row)
		}
		end = at[1]
		if end > pos {
			pos = end
			continue
		}
		_, n := utf8.DecodeRuneInString(text[pos:])
		pos += max(n, 1)
	}
	return found
}

func regexpCompile(L *lua.LState) int {
	p, err := compilePattern(L, checkText(L, 1, "compile"))
	if err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	take(L, 1, 64)
	L.Push(newObject(L, regexpType, p))
	return 1
}

// regexpDo calls f with an expression that the first argument is.
func regexpDo(L *lua.LState, name string, f func(*lua.LState, *pattern, string) lua.LValue) int {
	expression, text := checkText(L, 1, name), checkText(L, 2, name)
	p, err := compilePattern(L, expression)
	if err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	L.Push(f(L, p, text))
	return 1
}

// compiledDo calls f with the compiled expression that the first argument is.
func compiledDo(L *lua.LState, name string, f func(*lua.LState, *pattern, string) lua.LValue) int {
	var p *pattern
	if ud, ok := L.Get(1).(*lua.LUserData); ok {
		p, _ = ud.Value.(*pattern)
	}
	if p == nil {
		argError(L, 1, name, regexpType)
	}
	L.Push(f(L, p, checkText(L, 2, name)))
	return 1
}
