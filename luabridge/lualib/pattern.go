package lualib

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

const (
	maxCaptures = 32 // LUA_MAXCAPTURES
	// maxDepth bounds how deep a pattern nests; Lua 5.1 goes on until the C
	// stack ends.
	maxDepth = 4000
	// perStep is how many characters are compared for one step.
	perStep = 4
	// chargeEvery is after how many compared characters they are charged.
	chargeEvery = 256

	unfinished = -1 // length of a capture that is open
	position   = -2 // of one that is a position
)

// A matcher matches one text against one pattern, by backtracking, as Lua 5.1
// does (manual, 5.4.1). s and p are walked by index; -1 is no match.
type matcher struct {
	s, p string

	L      *lua.LState
	budget *budget.Budget
	work   int // characters compared and not charged yet
	depth  int

	level   int
	capture [maxCaptures]struct{ at, length int }
}

func (m *matcher) init(L *lua.LState, s, p string) {
	m.L, m.budget, m.s, m.p = L, budget.Of(L), s, p
	m.work = len(p) / 16
}

// tick counts a character that is compared.
func (m *matcher) tick() {
	if m.work++; m.work >= chargeEvery {
		m.charge()
	}
}

// charge takes the steps of what was compared since it did so last.
//
//go:noinline
func (m *matcher) charge() {
	n := m.work
	m.work = n % perStep
	m.budget.Work(m.L, n/perStep)
}

// start matches the pattern from p on at s, without what an earlier try
// captured.
func (m *matcher) start(s, p int) int {
	m.level, m.depth = 0, 0
	return m.match(s, p)
}

// match returns where the match of the pattern from p on ends that begins at s.
func (m *matcher) match(s, p int) int {
	if m.depth++; m.depth > maxDepth {
		m.L.RaiseError("pattern too complex")
	}
	e := m.run(s, p)
	m.depth--
	return e
}

func (m *matcher) run(s, p int) int {
	for {
		m.tick()
		if p == len(m.p) {
			return s
		}
		switch m.p[p] {
		case '(':
			if p+1 < len(m.p) && m.p[p+1] == ')' {
				return m.open(s, p+2, position)
			}
			return m.open(s, p+1, unfinished)
		case ')':
			return m.close(s, p+1)
		case '$':
			if p+1 == len(m.p) {
				if s == len(m.s) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 == len(m.p) {
				break // classEnd says what is wrong
			}
			switch c := m.p[p+1]; {
			case c == 'b':
				if s = m.balance(s, p+2); s < 0 {
					return -1
				}
				p += 4
				continue
			case c == 'f':
				p += 2
				if p == len(m.p) || m.p[p] != '[' {
					m.L.RaiseError("missing '[' after '%%f' in pattern")
				}
				end := m.classEnd(p)
				var before, after byte
				if s > 0 {
					before = m.s[s-1]
				}
				if s < len(m.s) {
					after = m.s[s]
				}
				if m.inSet(before, p, end-1) || !m.inSet(after, p, end-1) {
					return -1
				}
				p = end
				continue
			case isDigit(c):
				if s = m.again(s, c); s < 0 {
					return -1
				}
				p += 2
				continue
			}
		}

		end := p + 1
		if m.p[p] == '%' || m.p[p] == '[' {
			end = m.classEnd(p)
		}
		var suffix byte
		if end < len(m.p) {
			suffix = m.p[end]
		}
		switch suffix {
		case '?':
			if m.single(s, p, end) {
				if e := m.match(s+1, end+1); e >= 0 {
					return e
				}
			}
			p = end + 1
		case '*':
			return m.most(s, p, end)
		case '+':
			if !m.single(s, p, end) {
				return -1
			}
			return m.most(s+1, p, end)
		case '-':
			return m.least(s, p, end)
		default:
			if !m.single(s, p, end) {
				return -1
			}
			s, p = s+1, end
		}
	}
}

// most matches as many as possible of the class at p, then the rest.
func (m *matcher) most(s, p, end int) int {
	i := 0
	for m.single(s+i, p, end) {
		m.tick()
		i++
	}
	for ; i >= 0; i-- {
		if e := m.match(s+i, end+1); e >= 0 {
			return e
		}
	}
	return -1
}

// least matches as few as possible.
func (m *matcher) least(s, p, end int) int {
	for {
		if e := m.match(s, end+1); e >= 0 {
			return e
		}
		if !m.single(s, p, end) {
			return -1
		}
		s++
	}
}

// open begins a capture, or takes a position.
func (m *matcher) open(s, p, what int) int {
	if m.level >= maxCaptures {
		m.L.RaiseError("too many captures")
	}
	m.capture[m.level].at, m.capture[m.level].length = s, what
	m.level++
	e := m.match(s, p)
	if e < 0 {
		m.level--
	}
	return e
}

// close ends the capture that was opened last and is open.
func (m *matcher) close(s, p int) int {
	for i := m.level - 1; i >= 0; i-- {
		if m.capture[i].length != unfinished {
			continue
		}
		m.capture[i].length = s - m.capture[i].at
		e := m.match(s, p)
		if e < 0 {
			m.capture[i].length = unfinished
		}
		return e
	}
	m.L.RaiseError("invalid pattern capture")
	return -1
}

// balance matches %bxy, whose two characters are at p.
func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.p) {
		m.L.RaiseError("unbalanced pattern")
	}
	if s >= len(m.s) || m.s[s] != m.p[p] {
		return -1
	}
	begin, end, open := m.p[p], m.p[p+1], 1
	for i := s + 1; i < len(m.s); i++ {
		m.tick()
		switch m.s[i] {
		case end:
			if open--; open == 0 {
				return i + 1
			}
		case begin:
			open++
		}
	}
	return -1
}

// again matches what was captured before, %1 to %9.
func (m *matcher) again(s int, digit byte) int {
	i := int(digit) - '1'
	if i < 0 || i >= m.level || m.capture[i].length == unfinished {
		m.L.RaiseError("invalid capture index")
	}
	// A position has no text; the length that stands for it is longer than any.
	c := &m.capture[i]
	if c.length == position || len(m.s)-s < c.length {
		return -1
	}
	m.work += c.length / 16
	m.tick()
	if m.s[c.at:c.at+c.length] != m.s[s:s+c.length] {
		return -1
	}
	return s + c.length
}

// classEnd returns where the single character class at p ends.
func (m *matcher) classEnd(p int) int {
	c := m.p[p]
	p++
	switch c {
	case '%':
		if p == len(m.p) {
			m.L.RaiseError("malformed pattern (ends with '%%')")
		}
		return p + 1
	case '[':
		from := p
		if p < len(m.p) && m.p[p] == '^' {
			p++
		}
		for { // a ] that comes first is one of the set
			if p == len(m.p) {
				m.L.RaiseError("malformed pattern (missing ']')")
			}
			c := m.p[p]
			p++
			if c == '%' && p < len(m.p) {
				p++
			}
			if p < len(m.p) && m.p[p] == ']' {
				break
			}
		}
		m.work += (p - from) / 8
		return p + 1
	}
	return p
}

// single reports whether the character at s is of the class from p to end.
func (m *matcher) single(s, p, end int) bool {
	if s >= len(m.s) {
		return false
	}
	c := m.s[s]
	switch m.p[p] {
	case '.':
		return true
	case '%':
		return isClass(c, m.p[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	}
	return m.p[p] == c
}

// inSet reports whether c is in the set whose brackets are at p and last.
func (m *matcher) inSet(c byte, p, last int) bool {
	m.work += (last - p) / 8
	is := true
	p++
	if m.p[p] == '^' {
		is = false
		p++
	}
	for ; p < last; p++ {
		switch {
		case m.p[p] == '%':
			p++
			if isClass(c, m.p[p]) {
				return is
			}
		case p+2 < last && m.p[p+1] == '-':
			if m.p[p] <= c && c <= m.p[p+2] {
				return is
			}
			p += 2
		case m.p[p] == c:
			return is
		}
	}
	return !is
}

// isClass reports whether c is of the class that a letter stands for after %,
// in the C locale. Any other character stands for itself.
func isClass(c, class byte) bool {
	var is bool
	switch class | 0x20 {
	case 'a':
		is = isLetter(c)
	case 'c':
		is = c < 0x20 || c == 0x7f
	case 'd':
		is = isDigit(c)
	case 'l':
		is = 'a' <= c && c <= 'z'
	case 'p':
		is = 0x21 <= c && c <= 0x7e && !isLetter(c) && !isDigit(c)
	case 's':
		is = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		is = 'A' <= c && c <= 'Z'
	case 'w':
		is = isLetter(c) || isDigit(c)
	case 'x':
		is = isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		is = c == 0
	default:
		return class == c
	}
	return is == (class >= 'a') // a capital stands for the others
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// captures is how many values a match from s to e has: the whole match counts
// where the pattern captures nothing.
func (m *matcher) captures(whole bool) int {
	if m.level == 0 && whole {
		return 1
	}
	return m.level
}

// get is capture i of a match from s to e.
func (m *matcher) get(i, s, e int) lua.LValue {
	if i >= m.level {
		if i > 0 {
			m.L.RaiseError("invalid capture index")
		}
		return lua.LString(m.s[s:e])
	}
	switch c := &m.capture[i]; c.length {
	case unfinished:
		m.L.RaiseError("unfinished capture")
		return nil
	case position:
		return lua.LNumber(c.at + 1)
	default:
		return lua.LString(m.s[c.at : c.at+c.length])
	}
}

// push pushes the captures of a match from s to e and returns how many.
func (m *matcher) push(s, e int, whole bool) int {
	n := m.captures(whole)
	m.budget.Alloc(m.L, n*valueBytes)
	for i := range n {
		m.L.Push(m.get(i, s, e))
	}
	return n
}

// isPlain reports whether a pattern has nothing special in it.
func isPlain(p string) bool { return !strings.ContainsAny(p, "^$*+?.([%-") }
