package modules

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// maxRedisArgs and maxRedisBytes bound one command.
const (
	maxRedisArgs  = 10_000
	maxRedisBytes = 4 << 20
)

// redisArgs are what a script gave a command: a function's arguments behind the
// handle, or a row of a pipeline behind its name.
type redisArgs struct {
	L    *lua.LState
	list []lua.LValue
}

func (a redisArgs) at(i int) lua.LValue {
	if i < len(a.list) {
		return a.list[i]
	}
	return lua.LNil
}

// text is a key, field or member.
func (a redisArgs) text(i int) (string, error) { return a.word(i, a.at(i), false) }

// value is what is stored: booleans are 1 and 0.
func (a redisArgs) value(i int) (string, error) { return a.word(i, a.at(i), true) }

func (a redisArgs) word(i int, v lua.LValue, boolean bool) (string, error) {
	switch v := v.(type) {
	case lua.LString:
		take(a.L, 1+len(v)/64, 0)
		return string(v), nil
	case lua.LNumber:
		return redisNumber(v), nil
	case lua.LBool:
		if boolean {
			if v {
				return "1", nil
			}
			return "0", nil
		}
	}
	what := "string"
	if boolean {
		what = "string, number or boolean"
	}
	return "", fmt.Errorf("argument %d is a %s; expected a %s", i+1, v.Type(), what)
}

// redisNumber writes a number so that Redis reads it back exactly.
func redisNumber(n lua.LNumber) string {
	return strconv.FormatFloat(float64(n), 'f', -1, 64)
}

func (a redisArgs) integer(i int) (string, error) {
	switch v := a.at(i).(type) {
	case lua.LNumber:
		if f := float64(v); f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
			return strconv.FormatInt(int64(f), 10), nil
		}
		return "", fmt.Errorf("argument %d is %s; expected a whole number", i+1, redisNumber(v))
	case lua.LString:
		if _, err := strconv.ParseInt(string(v[:min(len(v), 24)]), 10, 64); err == nil && len(v) <= 24 {
			return string(v), nil
		}
	}
	return "", fmt.Errorf("argument %d is a %s; expected a whole number", i+1, a.at(i).Type())
}

// number is one that may be a fraction.
func (a redisArgs) number(i int) (string, error) {
	switch v := a.at(i).(type) {
	case lua.LNumber:
		if math.IsNaN(float64(v)) {
			return "", fmt.Errorf("argument %d is not a number", i+1)
		}
		return redisNumber(v), nil
	case lua.LString:
		if _, err := strconv.ParseFloat(string(v[:min(len(v), 40)]), 64); err == nil && len(v) <= 40 {
			return string(v), nil
		}
	}
	return "", fmt.Errorf("argument %d is a %s; expected a number", i+1, a.at(i).Type())
}

// score is a bound of scores: a number, or a text such as (5 and +inf.
func (a redisArgs) score(i int) (string, error) {
	if s, ok := a.at(i).(lua.LString); ok {
		return string(s), nil
	}
	return a.number(i)
}

var errTooMany = fmt.Errorf("a command has over %d arguments", maxRedisArgs)

// rest are the values from i on, those of a table each.
func (a redisArgs) rest(i int) (words []string, err error) {
	add := func(v lua.LValue) {
		if err != nil {
			return
		}
		if len(words) >= maxRedisArgs {
			err = errTooMany
			return
		}
		var w string
		w, err = a.word(i, v, true)
		words = append(words, w)
	}
	for ; i < len(a.list); i++ {
		if t, ok := a.list[i].(*lua.LTable); ok {
			each(a.L, t, func(_, v lua.LValue) { add(v) })
		} else {
			add(a.list[i])
		}
	}
	if err == nil && len(words) == 0 {
		err = errors.New("nothing is given")
	}
	return words, err
}

// pairs are keys and values from i on: of a table, or as they stand.
func (a redisArgs) pairs(i int) (words []string, err error) {
	if t, ok := a.at(i).(*lua.LTable); ok && len(a.list) == i+1 {
		each(a.L, t, func(k, v lua.LValue) {
			for _, x := range [...]lua.LValue{k, v} {
				if err == nil {
					var w string
					w, err = a.word(i, x, true)
					words = append(words, w)
				}
			}
			if len(words) > maxRedisArgs && err == nil {
				err = errTooMany
			}
		})
	} else if words, err = a.rest(i); err == nil && len(words)%2 != 0 {
		err = errors.New("a value is missing: expected pairs")
	}
	if err == nil && len(words) == 0 {
		err = errors.New("nothing is given")
	}
	return words, err
}

// options is the table at i, or nil.
func (a redisArgs) options(i int) *lua.LTable {
	t, _ := a.at(i).(*lua.LTable)
	return t
}

// pay takes what a command's words cost, and refuses one that is too long.
func (a redisArgs) pay(words []string) error {
	n := 0
	for _, w := range words {
		n += len(w)
	}
	if n > maxRedisBytes {
		return fmt.Errorf("a command of %d bytes, at most %d", n, maxRedisBytes)
	}
	b := budget.Of(a.L)
	b.Work(a.L, 50+len(words)+n/64)
	b.Alloc(a.L, 256+32*len(words)+n)
	return nil
}
