package modules

import (
	"fmt"
	"strconv"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

// A redisReply makes Lua of what Redis said, which is no error and not nil.
type redisReply func(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error)

const maxRedisDepth = 32

// replyAny makes of any answer what fits it best: texts, numbers, booleans and
// tables; nil and what is in the way of errors in a list count as well.
func replyAny(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	return redisValue(L, m, 0), nil
}

func redisValue(L *lua.LState, m *valkey.ValkeyMessage, depth int) lua.LValue {
	take(L, 8, 48)
	if depth > maxRedisDepth {
		L.RaiseError("redis: an answer is nested over %d deep", maxRedisDepth)
	}
	switch {
	case m.IsNil():
		return lua.LNil
	case m.IsInt64():
		n, _ := m.AsInt64()
		return lua.LNumber(n)
	case m.IsFloat64():
		f, _ := m.AsFloat64()
		return lua.LNumber(f)
	case m.IsBool():
		b, _ := m.AsBool()
		return lua.LBool(b)
	case m.IsMap():
		return redisPairs(L, m, depth)
	case m.IsArray():
		list, _ := m.ToArray()
		take(L, 4*len(list), 32*len(list))
		t := L.CreateTable(len(list), 0)
		for i := range list {
			t.RawSetInt(i+1, redisValue(L, &list[i], depth+1))
		}
		return t
	}
	if err := m.Error(); err != nil {
		return redisString(L, err.Error())
	}
	s, _ := m.ToString()
	return redisString(L, s)
}

// redisPairs makes a table of a map, RESP3's or a flat list.
func redisPairs(L *lua.LState, m *valkey.ValkeyMessage, depth int) *lua.LTable {
	entries, err := m.AsMap()
	if err != nil {
		L.RaiseError("redis: %s", err)
	}
	take(L, 8*len(entries), 96*len(entries))
	t := L.CreateTable(0, len(entries))
	for k, v := range entries {
		if !v.IsNil() {
			t.RawSetH(redisString(L, k), redisValue(L, &v, depth+1))
		}
	}
	return t
}

func redisString(L *lua.LState, s string) lua.LString {
	take(L, 4+len(s)/16, 32+len(s))
	return lua.LString(s)
}

// replyText is a string.
func replyText(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	v := redisValue(L, m, 0)
	if n, ok := v.(lua.LNumber); ok {
		return lua.LString(number(n)), nil
	}
	return v, nil
}

// replyNumber is a number, also where Redis writes it as a text.
func replyNumber(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	take(L, 8, 16)
	f, err := m.AsFloat64()
	if err != nil {
		n, err := m.AsInt64()
		return lua.LNumber(n), err
	}
	return lua.LNumber(f), nil
}

// replyBool is a boolean that Redis says as 0 or 1.
func replyBool(_ *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	b, err := m.AsBool()
	return lua.LBool(b), err
}

// replyMap is a table by name.
func replyMap(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	return redisPairs(L, m, 0), nil
}

// replyByName is a table of those of the names that have a value.
func replyByName(names []string) redisReply {
	return func(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
		list, err := m.ToArray()
		if err != nil {
			return lua.LNil, err
		}
		take(L, 8*len(list), 96*len(list))
		t := L.CreateTable(0, len(list))
		for i := range min(len(list), len(names)) {
			if !list[i].IsNil() {
				t.RawSetH(lua.LString(names[i]), redisValue(L, &list[i], 1))
			}
		}
		return t, nil
	}
}

// replyDense is a list without what is nil.
func replyDense(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	list, err := m.ToArray()
	if err != nil {
		return lua.LNil, err
	}
	take(L, 4*len(list), 32*len(list))
	t := L.CreateTable(len(list), 0)
	for i := range list {
		if !list[i].IsNil() {
			t.Append(redisValue(L, &list[i], 1))
		}
	}
	return t, nil
}

// replyAs is what get and hget return: the value as the kind that the script
// asked for, nil for "".
func replyAs(kind string) redisReply {
	return func(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
		v, err := replyText(L, m)
		s := lua.LVAsString(v)
		switch {
		case err != nil || s == "":
			return lua.LNil, err
		case kind == "number":
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return lua.LNil, fmt.Errorf("redis: the value is no number")
			}
			return lua.LNumber(f), nil
		case kind == "bool":
			b, err := strconv.ParseBool(s)
			if err != nil {
				return lua.LNil, fmt.Errorf("redis: the value is no boolean")
			}
			return lua.LBool(b), nil
		}
		return v, nil
	}
}

// replyScan is {cursor, keys}.
func replyScan(L *lua.LState, m *valkey.ValkeyMessage) (lua.LValue, error) {
	e, err := m.AsScanEntry()
	if err != nil {
		return lua.LNil, err
	}
	take(L, 8*len(e.Elements), 256+32*len(e.Elements))
	keys := L.CreateTable(len(e.Elements), 0)
	for _, k := range e.Elements {
		keys.Append(redisString(L, k))
	}
	t := L.CreateTable(0, 2)
	t.RawSetString("cursor", lua.LNumber(e.Cursor))
	t.RawSetString("keys", keys)
	return t, nil
}
