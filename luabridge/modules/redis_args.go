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

// redisText is a value as Redis gets it.
func redisText(L *lua.LState, v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		take(L, 4+len(v)/64, 32)
		return string(v), true
	case lua.LNumber:
		take(L, 16, 48)
		f := float64(v)
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return strconv.FormatInt(int64(f), 10), true
		}
		return strconv.FormatFloat(f, 'g', -1, 64), true
	case lua.LBool:
		if v {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

// text is argument i: a string, number or boolean.
func (a *redisArgs) text(i int) string {
	s, ok := redisText(a.L, a.at(i))
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

// whole is argument i: a whole number, or a text that is one.
func (a *redisArgs) whole(i int) string {
	switch v := a.at(i).(type) {
	case lua.LNumber:
		if f := float64(v); f == math.Trunc(f) && math.Abs(f) < 1<<63 {
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

// table reads the texts of a list.
func (a *redisArgs) table(i int, t *lua.LTable) []string {
	n := budget.Of(a.L).Len(a.L, t)
	take(a.L, 4*n, 32*n)
	out := make([]string, 0, n)
	for j := 1; j <= n; j++ {
		s, ok := redisText(a.L, t.RawGetInt(j))
		if !ok {
			a.bad(i, "table of strings")
		}
		out = append(out, s)
	}
	return out
}

// rest are the arguments from i on: a table, or several values.
func (a *redisArgs) rest(i int) []string {
	if t, ok := a.at(i).(*lua.LTable); ok {
		out := a.table(i, t)
		if len(out) == 0 {
			a.bad(i, "table with values")
		}
		return out
	}
	n := max(len(a.values)-i, 1)
	take(a.L, n, 16*n)
	out := make([]string, 0, n)
	for j := range n {
		out = append(out, a.text(i+j))
	}
	return out
}

// pairs are the arguments from i on: a table, or several keys and values.
func (a *redisArgs) pairs(i int) []string {
	t, ok := a.at(i).(*lua.LTable)
	if !ok {
		if len(a.values) <= i || (len(a.values)-i)%2 != 0 {
			a.L.RaiseError("%s: keys and values expected in pairs, got %d arguments%s", a.name, max(len(a.values)-i, 0), a.where)
		}
		return a.rest(i)
	}
	var out []string
	each(a.L, t, func(k, v lua.LValue) {
		take(a.L, 8, 64)
		key, ok1 := redisText(a.L, k)
		value, ok2 := redisText(a.L, v)
		if !ok1 || !ok2 {
			a.bad(i, "table of strings by string")
		}
		out = append(out, key, value)
	})
	if len(out) == 0 {
		a.bad(i, "table with values")
	}
	return out
}
