package modules

import (
	"fmt"
	"strconv"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

// A redisReply makes a Lua value of a server's answer. sent is the command.
type redisReply func(a redisArgs, sent []string, m valkey.ValkeyMessage) (lua.LValue, error)

func replyNumber(_ redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	n, err := m.AsInt64()
	return lua.LNumber(n), err
}

func replyBool(_ redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	n, err := m.AsInt64()
	return lua.LBool(n != 0), err
}

func replyFloat(_ redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	f, err := m.AsFloat64()
	return lua.LNumber(f), err
}

func replyText(a redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	s, err := m.ToString()
	take(a.L, len(s)/64, 32+len(s))
	return lua.LString(s), err
}

// replySet is SET's: nothing was set is nil without an error.
func replySet(a redisArgs, sent []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	if m.IsNil() {
		return lua.LNil, nil
	}
	return replyText(a, sent, m)
}

// replyTyped is GET's and HGET's: of the type that the argument behind the
// command's own names, and nil for an empty text.
func replyTyped(a redisArgs, sent []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	v, err := replyText(a, sent, m)
	text := string(v.(lua.LString))
	if err != nil || text == "" {
		return lua.LNil, err
	}
	kind := "string"
	if k, ok := a.at(len(sent) - 1).(lua.LString); ok {
		kind = string(k)
	}
	switch kind {
	case "string":
		return v, nil
	case "number":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return lua.LNil, fmt.Errorf("the value is no number")
		}
		return lua.LNumber(f), nil
	case "bool", "boolean":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return lua.LNil, fmt.Errorf("the value is no boolean")
		}
		return lua.LBool(b), nil
	}
	return lua.LNil, fmt.Errorf("unknown type %.20q; expected string, number or bool", kind)
}

// replyList leaves out what is nil.
func replyList(a redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	list, err := m.ToArray()
	take(a.L, len(list), 96+32*len(list))
	t := a.L.CreateTable(len(list), 0)
	for i := range list {
		if s, err := list[i].ToString(); err == nil {
			take(a.L, len(s)/64, 24+len(s))
			t.Append(lua.LString(s))
		}
	}
	return t, err
}

func replyMap(a redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	list, err := m.ToArray()
	take(a.L, 2*len(list), 96+128*len(list))
	t := a.L.CreateTable(0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		k, errK := list[i].ToString()
		v, errV := list[i+1].ToString()
		if errK != nil || errV != nil {
			continue
		}
		take(a.L, (len(k)+len(v))/64, 48+len(k)+len(v))
		t.RawSetString(k, lua.LString(v))
	}
	return t, err
}

// replyByName is a list of values by what was asked for: the words from first on.
func replyByName(first int) redisReply {
	return func(a redisArgs, sent []string, m valkey.ValkeyMessage) (lua.LValue, error) {
		list, err := m.ToArray()
		take(a.L, 2*len(list), 96+220*len(list))
		t := a.L.CreateTable(0, len(list))
		for i := range list {
			if s, err := list[i].ToString(); err == nil && first+i < len(sent) {
				take(a.L, len(s)/64, 24+len(s))
				t.RawSetString(sent[first+i], lua.LString(s))
			}
		}
		return t, err
	}
}

func replyScan(a redisArgs, sent []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	page, err := m.ToArray()
	if err != nil || len(page) != 2 {
		return lua.LNil, err
	}
	cursor, err := page[0].AsInt64()
	if err != nil {
		return lua.LNil, err
	}
	keys, err := replyList(a, sent, page[1])
	t := a.L.CreateTable(0, 2)
	t.RawSetString("cursor", lua.LNumber(cursor))
	t.RawSetString("keys", keys)
	return t, err
}

// replyAny is what a script of Redis returns.
func replyAny(a redisArgs, _ []string, m valkey.ValkeyMessage) (lua.LValue, error) {
	return anyReply(a, &m, 0)
}

func anyReply(a redisArgs, m *valkey.ValkeyMessage, depth int) (lua.LValue, error) {
	switch {
	case depth > maxDepth:
		return lua.LNil, fmt.Errorf("the answer is nested over %d deep", maxDepth)
	case m.IsNil():
		if depth > 0 {
			return lua.LNil, nil
		}
		return lua.LNil, valkey.Nil
	case m.IsArray():
		list, err := m.ToArray()
		if err != nil {
			return lua.LNil, err
		}
		take(a.L, len(list), 96+32*len(list))
		t := a.L.CreateTable(len(list), 0)
		for i := range list {
			v, err := anyReply(a, &list[i], depth+1)
			if err != nil {
				return lua.LNil, err
			}
			t.RawSetInt(i+1, v)
		}
		return t, nil
	case m.IsInt64():
		n, err := m.AsInt64()
		return lua.LNumber(n), err
	}
	return replyText(a, nil, *m)
}
