package modules

import (
	"math"
	"strconv"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// redisArgs are the arguments of one command: those of a function after the
// handle, or those of an entry of a pipeline.
type redisArgs struct {
	L      *lua.LState
	name   string
	values []lua.LValue
	first  int    // which argument the first is, for errors
	where  string // behind the errors
	piped  bool   // an entry of a pipeline
	// nothing: a list of values is empty, so that there is nothing to ask.
	nothing bool
}

func (a *redisArgs) at(i int) lua.LValue {
	if i < len(a.values) {
		return a.values[i]
	}
	return lua.LNil
}

func (a *redisArgs) bad(i int, expected string) {
	got := "no value"
	if i < len(a.values) {
		v := a.values[i]
		got = v.Type().String()
		switch v.(type) {
		case lua.LString, lua.LNumber, lua.LBool:
			got += ": " + budget.Of(a.L).Show(v)
		}
	}
	a.L.RaiseError("bad argument #%d to %s (%s expected, got %s)%s", i+a.first, a.name, expected, got, a.where)
}

// redisText is a value as Redis gets it. Nauthilus writes a number that is a key, a
// field or a member as Lua does ('g': 1.5e+09), and one that is a value without
// an exponent ('f').
func redisText(L *lua.LState, v lua.LValue, format byte) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		take(L, 4+len(v)/64, 32)
		return string(v), true
	case lua.LNumber:
		f := float64(v)
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			take(L, 16, 48)
			return strconv.FormatInt(int64(f), 10), true
		}
		take(L, 16, 400)
		return strconv.FormatFloat(f, format, -1, 64), true
	case lua.LBool:
		if v {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

// text is argument i, a key or the like: a string, number or boolean.
func (a *redisArgs) text(i int) string {
	s, ok := redisText(a.L, a.at(i), 'g')
	if !ok {
		a.bad(i, "string")
	}
	return s
}

// value is argument i, which is to be kept: nil is "", unless it was left out. The
// command of a pipeline is a list, which does not say whether it was.
func (a *redisArgs) value(i int) string {
	if a.at(i) == lua.LNil && (i < len(a.values) || a.piped) {
		return ""
	}
	s, ok := redisText(a.L, a.at(i), 'f')
	if !ok {
		a.bad(i, "string")
	}
	return s
}

// number is argument i: a number, or a text that is one, as +inf and (5 are for
// ranges.
func (a *redisArgs) number(i int) string {
	switch a.at(i).(type) {
	case lua.LNumber, lua.LString:
		return a.text(i)
	}
	a.bad(i, "number")
	return ""
}

// whole is argument i: a number, of which the fraction is left out, or a text that
// is a whole one.
func (a *redisArgs) whole(i int) string {
	switch v := a.at(i).(type) {
	case lua.LNumber:
		if f := math.Trunc(float64(v)); math.Abs(f) < 1<<63 {
			take(a.L, 16, 48)
			return strconv.FormatInt(int64(f), 10)
		}
	case lua.LString:
		if _, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return string(v)
		}
	}
	a.bad(i, "whole number")
	return ""
}

// table reads the texts of a list. What is nil in it is left out, as in Nauthilus.
func (a *redisArgs) table(i int, t *lua.LTable, format byte) []string {
	n := budget.Of(a.L).Len(a.L, t)
	take(a.L, 4*n, 32*n)
	out := make([]string, 0, n)
	for j := 1; j <= n; j++ {
		v := t.RawGetInt(j)
		if v == lua.LNil {
			continue
		}
		s, ok := redisText(a.L, v, format)
		if !ok {
			a.bad(i, "table of strings")
		}
		out = append(out, s)
	}
	return out
}

// rest are the arguments from i on: a table, or several keys or the like.
func (a *redisArgs) rest(i int) []string { return a.list(i, 'g', a.text) }

// restValues are the arguments from i on: a table, or several values.
func (a *redisArgs) restValues(i int) []string { return a.list(i, 'f', a.value) }

func (a *redisArgs) list(i int, format byte, text func(int) string) []string {
	if t, ok := a.at(i).(*lua.LTable); ok {
		out := a.table(i, t, format)
		a.some(i, len(out))
		return out
	}
	n := len(a.values) - i
	if n <= 0 {
		a.bad(i, "string")
	}
	take(a.L, n, 16*n)
	out := make([]string, 0, n)
	for j := range n {
		out = append(out, text(i+j))
	}
	return out
}

// some notes an empty table of values. In a pipeline each command has an answer
// of Redis', so that it is an error there.
func (a *redisArgs) some(i, n int) {
	if n > 0 {
		return
	}
	if a.piped {
		a.bad(i, "table with values")
	}
	a.nothing = true
}

// pairs are the arguments from i on: a table, or several keys and values.
func (a *redisArgs) pairs(i int) []string {
	t, ok := a.at(i).(*lua.LTable)
	if !ok {
		n := len(a.values) - i
		if a.piped && n > 0 {
			n += n % 2 // the last value is nil
		}
		if n <= 0 || n%2 != 0 {
			a.L.RaiseError("%s: keys and values expected in pairs, got %d arguments%s", a.name, max(n, 0), a.where)
		}
		take(a.L, n, 16*n)
		out := make([]string, 0, n)
		for j := 0; j < n; j += 2 {
			out = append(out, a.text(i+j), a.value(i+j+1))
		}
		return out
	}
	var out []string
	each(a.L, t, func(k, v lua.LValue) {
		take(a.L, 8, 64)
		key, ok1 := redisText(a.L, k, 'g')
		value, ok2 := redisText(a.L, v, 'f')
		if !ok1 || !ok2 {
			a.bad(i, "table of strings by string")
		}
		out = append(out, key, value)
	})
	a.some(i, len(out))
	return out
}
