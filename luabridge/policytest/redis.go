package policytest

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
	lua "github.com/yuin/gopher-lua"
)

// A stored is what Redis has under a key: one of them.
type stored struct {
	text string
	list []string
	hash map[string]string
}

func readRedis(v lua.LValue) (any, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		text, err := readText(v)
		return &stored{text: text}, err
	}
	if t.Len() > 0 {
		list, err := readTexts(t)
		return &stored{list: list}, err
	}
	hash := map[string]string{}
	for _, f := range fields(t) {
		text, err := readText(f.value)
		if err != nil {
			return nil, fmt.Errorf("[%q]: %w", f.name, err)
		}
		hash[f.name] = text
	}
	return &stored{hash: hash}, nil
}

// put stores a key.
func (s *stored) put(server *miniredis.Miniredis, key string) (err error) {
	server.Del(key)
	switch {
	case s.list != nil:
		_, err = server.Push(key, s.list...)
	case s.hash != nil:
		for name, v := range s.hash {
			server.HSet(key, name, v)
		}
	default:
		err = server.Set(key, s.text)
	}
	return err
}

// redisValue is what Redis has under a key, for a test: a text, a list, a table,
// or nil.
func redisValue(L *lua.LState, server *miniredis.Miniredis, key string) lua.LValue {
	if !server.Exists(key) {
		return lua.LNil
	}
	t := L.NewTable()
	switch server.Type(key) {
	case "hash":
		names, _ := server.HKeys(key)
		for _, name := range names {
			t.RawSetString(name, lua.LString(server.HGet(key, name)))
		}
	case "list":
		list, _ := server.List(key)
		for _, text := range list {
			t.Append(lua.LString(text))
		}
	case "set":
		list, _ := server.Members(key)
		for _, text := range list {
			t.Append(lua.LString(text))
		}
	default:
		text, err := server.Get(key)
		if err != nil {
			return lua.LNil
		}
		return lua.LString(text)
	}
	return t
}
