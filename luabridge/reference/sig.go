package reference

import (
	"fmt"
	"slices"
	"strings"
)

// A Sig is a function's parameters and results.
type Sig struct {
	Params  []Param
	Results []Param
}

// A Param is one of them.
type Param struct {
	Name     string // "..." for any number
	Optional bool   // `name?: type`
	Type     string // LuaLS
}

// String returns the Sig as modules.Func has it.
func (s Sig) String() string {
	text := "(" + list(s.Params) + ")"
	if len(s.Results) > 0 {
		text += " -> " + list(s.Results)
	}
	return text
}

// fun is the Sig as LuaLS writes the type of a function.
func (s Sig) fun() string {
	text := "fun(" + list(s.Params) + ")"
	for i, r := range s.Results {
		text += []string{": ", ", "}[min(i, 1)] + r.Type
	}
	return text
}

func list(params []Param) string {
	texts := make([]string, len(params))
	for i, p := range params {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

// String returns `name: type`.
func (p Param) String() string {
	if p.Optional {
		return p.Name + "?: " + p.Type
	}
	return p.Name + ": " + p.Type
}

// ParseSig reads the Sig of a modules.Func: `(key: string, ttl?: integer) ->
// value: any, err: string?`. known reports whether there is a type of that name,
// besides Lua's own. An error says what was found where something else was
// expected.
func ParseSig(text string, known func(name string) bool) (sig Sig, err error) {
	p := &sigParser{text: text, known: known}
	defer func() {
		if fault, ok := recover().(sigError); ok {
			sig, err = Sig{}, fmt.Errorf("%q: %s", text, string(fault))
		}
	}()
	p.next()
	p.expect("(")
	sig.Params = p.params(true)
	p.expect(")")
	if p.take("->") {
		sig.Results = p.results()
	}
	if p.token != "" {
		p.fail("the end")
	}
	return sig, nil
}

// parseType reads a type alone, and returns it as LuaLS has it.
func parseType(text string, known func(name string) bool) (typ string, err error) {
	p := &sigParser{text: text, known: known}
	defer func() {
		if fault, ok := recover().(sigError); ok {
			typ, err = "", fmt.Errorf("%q: %s", text, string(fault))
		}
	}()
	p.next()
	typ = p.typ()
	if p.token != "" {
		p.fail("the end")
	}
	return typ, nil
}

// A sigError is what ParseSig panics with, within itself.
type sigError string

// A sigParser reads a text by recursive descent.
type sigParser struct {
	text  string
	at    int    // behind token
	token string // the present one; "" at the end
	depth int    // types within types
	known func(string) bool
}

// maxDepth bounds how deep types are nested.
const maxDepth = 20

func (p *sigParser) fail(expected string) {
	found := "the end"
	if p.token != "" {
		found = fmt.Sprintf("%q", p.token)
	}
	panic(sigError("found " + found + ", expected " + expected))
}

// next reads the next token: a name, a number, a quoted text or a sign.
func (p *sigParser) next() {
	rest := strings.TrimLeft(p.text[p.at:], " ")
	p.at = len(p.text) - len(rest)
	n := 0
	switch {
	case rest == "":
	case rest[0] == '"':
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			panic(sigError("a text has no end: " + rest))
		}
		n = end + 2
	case wordByte(rest[0]):
		for n < len(rest) && (wordByte(rest[n]) || rest[n] == '.' && n+1 < len(rest) && wordByte(rest[n+1])) {
			n++
		}
	case strings.HasPrefix(rest, "..."):
		n = 3
	case strings.HasPrefix(rest, "->"), strings.HasPrefix(rest, "[]"):
		n = 2
	case strings.IndexByte("(){}<>:,?|", rest[0]) >= 0:
		n = 1
	default:
		panic(sigError(fmt.Sprintf("found %q, which is no part of a signature", rest[0])))
	}
	p.token = rest[:n]
	p.at += n
}

func wordByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// take goes on behind the token, if it is that one.
func (p *sigParser) take(token string) bool {
	if p.token != token {
		return false
	}
	p.next()
	return true
}

func (p *sigParser) expect(token string) {
	if !p.take(token) {
		p.fail(fmt.Sprintf("%q", token))
	}
}

// keywords are Lua's: no parameter has such a name.
var keywords = strings.Fields("and break do else elseif end false for function goto if in local nil not or repeat return then true until while")

func (p *sigParser) name() string {
	name := p.token
	if name == "" || !wordByte(name[0]) || name[0] <= '9' || strings.Contains(name, ".") || slices.Contains(keywords, name) {
		p.fail("a name")
	}
	p.next()
	return name
}

// params reads parameters up to a closing bracket. Where ordered, those behind
// an optional one are optional, and one of any number is the last.
func (p *sigParser) params(ordered bool) []Param {
	var list []Param
	for p.token != ")" && p.token != "}" {
		if len(list) > 0 {
			p.expect(",")
		}
		var q Param
		if ordered && p.take("...") {
			q.Name = "..."
		} else {
			q.Name = p.name()
			q.Optional = p.take("?")
		}
		p.expect(":")
		q.Type = p.typ()
		if n := len(list); n > 0 && ordered {
			last := list[n-1]
			if last.Name == "..." {
				panic(sigError(q.Name + " stands behind ..."))
			}
			if last.Optional && !q.Optional && q.Name != "..." {
				panic(sigError(q.Name + " must be given, though it stands behind " + last.Name + ", which need not"))
			}
		}
		if slices.ContainsFunc(list, func(o Param) bool { return o.Name == q.Name }) {
			panic(sigError("two are named " + q.Name))
		}
		list = append(list, q)
	}
	return list
}

func (p *sigParser) results() []Param {
	var list []Param
	for {
		q := Param{Name: "..."}
		if !p.take("...") {
			q.Name = p.name()
		}
		p.expect(":")
		q.Type = p.typ()
		list = append(list, q)
		if q.Name == "..." || !p.take(",") {
			return list
		}
	}
}

// luaTypes are the types that need no declaration.
var luaTypes = strings.Fields("string number integer boolean table any nil function userdata thread true false unknown")

// typ reads a type: alternatives, each with its ? and [].
func (p *sigParser) typ() string {
	if p.depth++; p.depth > maxDepth {
		panic(sigError("types are nested too deep"))
	}
	defer func() { p.depth-- }()
	text := ""
	for {
		text += p.single()
		for p.token == "?" || p.token == "[]" {
			text += p.token
			p.next()
		}
		if !p.take("|") {
			return text
		}
		text += "|"
	}
}

func (p *sigParser) single() string {
	name := p.token
	switch {
	case p.take("("):
		text := "(" + p.typ() + ")"
		p.expect(")")
		return text
	case p.take("{"):
		text := "{" + list(p.params(false)) + "}"
		p.expect("}")
		return text
	case p.take("fun"):
		p.expect("(")
		text := "fun(" + list(p.params(true)) + ")"
		p.expect(")")
		if p.take(":") {
			text += ": " + p.typ()
		}
		return text
	case strings.HasPrefix(name, `"`):
		p.next()
		return name
	case name == "" || !wordByte(name[0]):
		p.fail("a type")
	case name[0] <= '9':
		p.next()
		return name
	case !slices.Contains(luaTypes, name) && (p.known == nil || !p.known(name)):
		p.fail("a type that there is")
	}
	p.next()
	if !p.take("<") {
		return name
	}
	text := name + "<" + p.typ()
	for p.take(",") {
		text += ", " + p.typ()
	}
	p.expect(">")
	return text + ">"
}
