package lualib

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

const (
	// valueBytes is what a text or number takes besides its bytes, and its place
	// on the stack.
	valueBytes = 32
	// copiedPerStep is how many bytes are copied in one step.
	copiedPerStep = 64
)

// OpenString makes string. dump is out: it makes bytecode.
func OpenString(L *lua.LState) *lua.LTable {
	t := L.SetFuncs(L.CreateTable(0, len(stringFuncs)+1), stringFuncs)
	t.RawSetString("gfind", t.RawGetString("gmatch")) // Lua 5.0's name
	return t
}

var stringFuncs = map[string]lua.LGFunction{
	"byte":    strByte,
	"char":    strChar,
	"find":    func(L *lua.LState) int { return strFind(L, true) },
	"format":  strFormat,
	"gmatch":  strGmatch,
	"gsub":    strGsub,
	"len":     strLen,
	"lower":   func(L *lua.LState) int { return strMap(L, lower) },
	"match":   func(L *lua.LState) int { return strFind(L, false) },
	"rep":     strRep,
	"reverse": strReverse,
	"sub":     strSub,
	"upper":   func(L *lua.LState) int { return strMap(L, upper) },
}

// optInt is an argument that is a whole number, or d where there is none.
func optInt(L *lua.LState, n, d int) int {
	if L.Get(n) == lua.LNil {
		return d
	}
	return checkInt(L, n)
}

// checkInt cuts a number to a whole one, as Lua's luaL_checkinteger does; what
// is too large for an int is the nearest.
func checkInt(L *lua.LState, n int) int {
	const most = 1 << 62
	f := float64(checkNumber(L, n))
	switch {
	case f != f:
		return 0
	case f >= most:
		return most
	case f <= -most:
		return -most
	}
	return int(f)
}

// checkNumber is a number, or a text that is one and not too long for it.
func checkNumber(L *lua.LState, n int) lua.LNumber {
	if s, ok := L.Get(n).(lua.LString); ok && len(s) > maxNumber {
		L.TypeError(n, lua.LTNumber)
	}
	return L.CheckNumber(n)
}

// maxNumber is the longest text that is read as a number, in bytes: reading a
// long one takes time and memory for nothing.
const maxNumber = 200

// place turns a Lua position, counted from the end where it is negative, into
// one counted from 1; one before the beginning is 0.
func place(i, length int) int {
	if i < 0 {
		i += length + 1
	}
	return max(i, 0)
}

func strLen(L *lua.LState) int {
	L.Push(lua.LNumber(len(L.CheckString(1))))
	return 1
}

func strSub(L *lua.LState) int {
	s := L.CheckString(1)
	from, to := place(checkInt(L, 2), len(s)), place(optInt(L, 3, -1), len(s))
	from, to = max(from, 1), min(to, len(s))
	if from > to {
		L.Push(lua.LString(""))
		return 1
	}
	budget.Of(L).Alloc(L, valueBytes) // it shares the bytes
	L.Push(lua.LString(s[from-1 : to]))
	return 1
}

func strByte(L *lua.LState) int {
	s := L.CheckString(1)
	from := place(optInt(L, 2, 1), len(s))
	to := place(optInt(L, 3, from), len(s))
	from, to = max(from, 1), min(to, len(s))
	n := to - from + 1
	if n <= 0 {
		return 0
	}
	if n > 1 {
		b := budget.Of(L)
		b.Work(L, n/perStep)
		b.Alloc(L, n*valueBytes)
		b.Room(L, n)
	}
	for i := from; i <= to; i++ {
		L.Push(byteValues[s[i-1]])
	}
	return n
}

// byteValues are the numbers of all bytes as Lua values.
var byteValues = func() (list [256]lua.LValue) {
	for i := range list {
		list[i] = lua.LNumber(i)
	}
	return list
}()

func strChar(L *lua.LState) int {
	n := L.GetTop()
	budget.Of(L).Alloc(L, valueBytes+n)
	b := make([]byte, n)
	for i := range b {
		c := checkInt(L, i+1)
		if c != int(byte(c)) {
			L.ArgError(i+1, "invalid value")
		}
		b[i] = byte(c)
	}
	L.Push(lua.LString(b))
	return 1
}

// copied takes what a new text of n bytes needs.
func copied(L *lua.LState, n int) {
	b := budget.Of(L)
	b.Alloc(L, valueBytes+n)
	if n > copiedPerStep {
		b.Work(L, n/copiedPerStep)
	}
}

func strReverse(L *lua.LState) int {
	s := L.CheckString(1)
	copied(L, len(s))
	b := make([]byte, len(s))
	for i := range b {
		b[len(b)-1-i] = s[i]
	}
	L.Push(lua.LString(b))
	return 1
}

// strMap changes each byte of a text.
func strMap(L *lua.LState, f func(byte) byte) int {
	s := L.CheckString(1)
	i := 0
	for i < len(s) && f(s[i]) == s[i] {
		i++
	}
	copied(L, len(s))
	if i == len(s) {
		L.Push(lua.LString(s))
		return 1
	}
	b := []byte(s)
	for ; i < len(b); i++ {
		b[i] = f(b[i])
	}
	L.Push(lua.LString(b))
	return 1
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c &^= 0x20
	}
	return c
}

func strRep(L *lua.LState) int {
	s, n := L.CheckString(1), max(checkInt(L, 2), 0)
	if len(s) == 0 || n == 0 {
		L.Push(lua.LString(""))
		return 1
	}
	size := 1 << 40 // more than there can be
	if n < size/len(s) {
		size = n * len(s)
	}
	copied(L, size)
	L.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

// strFind is string.find and string.match.
func strFind(L *lua.LState, find bool) int {
	s, p := L.CheckString(1), L.CheckString(2)
	from := min(max(place(optInt(L, 3, 1), len(s))-1, 0), len(s))
	budget.Of(L).Work(L, len(p)/copiedPerStep)
	if find && (lua.LVAsBool(L.Get(4)) || isPlain(p)) {
		budget.Of(L).Work(L, (len(s)-from)/copiedPerStep)
		i := strings.Index(s[from:], p)
		if i < 0 {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(from + i + 1))
		L.Push(lua.LNumber(from + i + len(p)))
		return 2
	}
	var m matcher
	m.init(L, s, p)
	first := 0
	anchored := len(p) > 0 && p[0] == '^'
	if anchored {
		first = 1
	}
	for i := from; i <= len(s); i++ {
		e := m.start(i, first)
		if e < 0 && anchored {
			break
		}
		if e < 0 {
			continue
		}
		m.charge()
		if !find {
			return m.push(i, e, true)
		}
		L.Push(lua.LNumber(i + 1))
		L.Push(lua.LNumber(e))
		return 2 + m.push(i, e, false)
	}
	m.charge()
	L.Push(lua.LNil)
	return 1
}

// strGmatch returns an iterator. ^ is nothing special in its pattern.
func strGmatch(L *lua.LState) int {
	s, p := L.CheckString(1), L.CheckString(2)
	budget.Of(L).Alloc(L, 128)
	next := 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		var m matcher
		m.init(L, s, p)
		for i := next; i <= len(s); i++ {
			e := m.start(i, 0)
			if e < 0 {
				continue
			}
			next = e
			if e == i {
				next++
			}
			m.charge()
			return m.push(i, e, true)
		}
		m.charge()
		next = len(s) + 1
		L.Push(lua.LNil)
		return 1
	}))
	return 1
}

func strGsub(L *lua.LState) int {
	s, p := L.CheckString(1), L.CheckString(2)
	repl := L.Get(3)
	switch v := repl.(type) {
	case lua.LNumber:
		repl = lua.LString(v.String())
	case lua.LString, *lua.LTable, *lua.LFunction:
	default:
		L.ArgError(3, "string, function or table expected, got "+repl.Type().String())
	}
	most := optInt(L, 4, len(s)+1)
	g := replacer{repl: repl}
	g.init(L, s, p)
	first := 0
	anchored := len(p) > 0 && p[0] == '^'
	if anchored {
		first = 1
	}
	at, n := 0, 0
	for n < most {
		e := g.start(at, first)
		if e >= 0 {
			n++
			g.replace(at, e)
		}
		if e > at {
			at = e
		} else {
			at++
		}
		if at > len(s) || anchored {
			break
		}
	}
	g.charge()
	L.Push(lua.LString(g.result()))
	L.Push(lua.LNumber(n))
	return 2
}

// A replacer is a matcher with what gsub puts in the place of the matches.
type replacer struct {
	matcher
	repl lua.LValue
	out  buffer
	done int // how much of s is in out
}

// replace puts what stands for the match from s to e into the result.
func (g *replacer) replace(s, e int) {
	var v lua.LValue
	switch repl := g.repl.(type) {
	case lua.LString:
		g.out.add(g.L, g.s[g.done:s])
		g.expand(string(repl), s, e)
		g.done = e
		return
	case *lua.LTable:
		g.budget.Work(g.L, 1)
		v = g.L.GetTable(repl, g.get(0, s, e))
	case *lua.LFunction:
		g.budget.Work(g.L, 2)
		g.L.Push(repl)
		n := g.push(s, e, true)
		g.L.Call(n, 1)
		v = g.L.Get(-1)
		g.L.Pop(1)
	}
	switch v := v.(type) {
	case lua.LString, lua.LNumber:
		g.out.add(g.L, g.s[g.done:s])
		g.out.add(g.L, v.String())
		g.done = e
	default:
		if lua.LVAsBool(v) {
			g.L.RaiseError("invalid replacement value (a %s)", v.Type())
		}
	}
}

// expand adds a replacement text, with its %0 to %9.
func (g *replacer) expand(repl string, s, e int) {
	for {
		i := strings.IndexByte(repl, '%')
		if i < 0 {
			break
		}
		g.out.add(g.L, repl[:i])
		if i+1 == len(repl) { // Lua 5.1 quotes the zero after the text's end
			repl += "\x00"
		}
		switch c := repl[i+1]; {
		case c == '0':
			g.out.add(g.L, g.s[s:e])
		case isDigit(c):
			g.out.add(g.L, g.get(int(c)-'1', s, e).String())
		default:
			g.out.add(g.L, repl[i+1:i+2])
		}
		repl = repl[i+2:]
	}
	g.out.add(g.L, repl)
}

func (g *replacer) result() string {
	if g.done == 0 && g.out.Len() == 0 {
		return g.s
	}
	g.out.add(g.L, g.s[g.done:])
	return g.out.String()
}

// A buffer builds a text within the budget.
type buffer struct{ strings.Builder }

func (b *buffer) add(L *lua.LState, s string) {
	n := len(s)
	if n > b.Cap()-b.Len() {
		budget.Of(L).Alloc(L, valueBytes+2*b.Cap()+n)
		b.Grow(n)
	}
	budget.Of(L).Work(L, 1+n/copiedPerStep)
	b.WriteString(s)
}
