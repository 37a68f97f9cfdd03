package modules

import (
	"math"
	"strconv"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

var redisStringFuncs = []Func{
	redisFunc("get", redisGet, `(handle: any, key: string, kind?: "string"|"number"|"bool") -> value: string|number|boolean|nil, err: string?`,
		"The value of a key, as a string unless `kind` says otherwise. Of an empty value nil, without an error.",
		`redis.redis_set("default", "greeting", "hello")
print(redis.redis_get("default", "greeting")) --> hello	nil
print(redis.redis_get("default", "nothing")) --> nil	redis: nil`),
	redisFunc("set", redisSet, `(handle: any, key: string, value: any, options?: number|{nx?: boolean, xx?: boolean, get?: boolean, keepttl?: boolean, ex?: integer, px?: integer, exat?: integer, pxat?: integer}) -> ok: string?, err: string?`,
		"Sets a key, for so many seconds or with Redis' own options. Returns `\"OK\"`; with `get` the value before; nil without an error where `nx` or `xx` refuses.",
		`print(redis.redis_set("default", "lock", request.session, {nx = true, ex = 30})) --> OK	nil
print(redis.redis_set("default", "lock", "another", {nx = true, ex = 30})) --> nil	nil`),
	redisFunc("del", keysCall("DEL", false), "(handle: any, key: string) -> removed: integer?, err: string?",
		"Removes a key, and returns how many there were.",
		`redis.redis_set("default", "k", 1)
print(redis.redis_del("default", "k")) --> 1	nil`),
	redisFunc("exists", keysCall("EXISTS", true), "(handle: any, key: string) -> n: integer?, err: string?",
		"1 where the key is there, else 0.", `print(redis.redis_exists("default", "nothing")) --> 0	nil`),
	redisFunc("incr", func(a *redisArgs) redisCall { return writing(replyNumber, "INCR", a.text(0)) },
		"(handle: any, key: string) -> value: integer?, err: string?", "Adds one and returns the sum; what is not there counts as 0.",
		`print(redis.redis_incr("default", "logins")) --> 1	nil`),
	redisFunc("expire", func(a *redisArgs) redisCall { return writing(replyBool, "EXPIRE", a.text(0), a.whole(1)) },
		"(handle: any, key: string, seconds: integer) -> done: boolean?, err: string?", "Lets a key end in so many seconds. False where it is not there.",
		`redis.redis_set("default", "k", 1)
print(redis.redis_expire("default", "k", 60)) --> true	nil`),
	redisFunc("rename", func(a *redisArgs) redisCall { return writing(replyText, "RENAME", a.text(0), a.text(1)) },
		`(handle: any, from: string, to: string) -> ok: "OK"?, err: string?`, "Gives a key another name. One of that name is overwritten.",
		`redis.redis_set("default", "a", 1)
print(redis.redis_rename("default", "a", "b")) --> OK	nil`),
	redisFunc("mget", redisMGet, "(handle: any, keys: string|string[], ...: string) -> values: table<string,string>?, err: string?",
		"The values of several keys, by key; those that are not there are not in it. In a Cluster the keys must share a slot.",
		`redis.redis_mset("default", {a = 1, b = 2})
local values = redis.redis_mget("default", "a", "b", "c")
print(values.a, values.b, values.c) --> 1	2	nil`),
	redisFunc("mset", func(a *redisArgs) redisCall {
		return writing(replyText, append([]string{"MSET"}, a.pairs(0)...)...)
	}, `(handle: any, values: string|table<string,any>, ...: any) -> ok: "OK"?, err: string?`,
		"Sets several keys: a table, or keys and values in turn. In a Cluster the keys must share a slot.",
		`print(redis.redis_mset("default", "a", 1, "b", 2)) --> OK	nil`),
	redisFunc("keys", func(a *redisArgs) redisCall {
		return redisCall{words: []string{"KEYS", a.text(0)}, read: true, reply: replyAny}
	}, "(handle: any, pattern: string) -> keys: string[]?, err: string?",
		"All keys like a pattern, in no order. It stops a big server for a while: `redis_scan` does not. In a Cluster those of one node.",
		`redis.redis_set("default", "user:alice", 1)
print(redis.redis_keys("default", "user:*")[1]) --> user:alice`),
	redisFunc("scan", redisScan, "(handle: any, cursor?: integer, pattern?: string, count?: integer) -> page: {cursor: integer, keys: string[]}?, err: string?",
		"Some of the keys like a pattern, about `count` (10), and the cursor to go on with; 0 is the beginning and, as an answer, the end. In a Cluster those of one node.",
		`redis.redis_set("default", "user:alice", 1)
local page = redis.redis_scan("default", 0, "user:*", 100)
print(page.cursor, page.keys[1]) --> 0	user:alice`),
}

// keysCall is a command of one key or several, which counts.
func keysCall(command string, read bool) redisBuild {
	return func(a *redisArgs) redisCall {
		return redisCall{words: append([]string{command}, a.rest(0)...), key: 1, read: read, reply: replyNumber}
	}
}

// kind is argument i of get and hget.
func (a *redisArgs) kind(i int) string {
	switch a.at(i) {
	case lua.LNil, lua.LString("string"):
		return "string"
	case lua.LString("number"):
		return "number"
	case lua.LString("bool"), lua.LString("boolean"):
		return "bool"
	}
	a.bad(i, `"string", "number" or "bool"`)
	return ""
}

// as makes of a value what argument i says. In a pipeline it is always a string, ""
// too.
func (a *redisArgs) as(i int) redisReply {
	if a.piped {
		return replyText
	}
	return replyAs(a.kind(i))
}

func redisGet(a *redisArgs) redisCall { return reading(a.as(1), "GET", a.text(0)) }

func redisMGet(a *redisArgs) redisCall {
	keys := a.rest(0)
	reply := replyByName(keys)
	if a.piped {
		reply = replyDense
	}
	return reading(reply, append([]string{"MGET"}, keys...)...)
}

func redisScan(a *redisArgs) redisCall {
	words := []string{"SCAN", "0", "MATCH", "*", "COUNT", "10"}
	if a.at(0) != lua.LNil {
		words[1] = a.whole(0)
	}
	if a.at(1) != lua.LNil {
		words[3] = a.text(1)
	}
	if a.at(2) != lua.LNil {
		words[5] = a.whole(2)
	}
	return redisCall{words: words, read: true, reply: replyScan}
}

func redisSet(a *redisArgs) redisCall {
	call := writing(replyText, "SET", a.text(0), a.value(1))
	switch v := a.at(2).(type) {
	case *lua.LNilType:
	case lua.LNumber:
		call.words = append(call.words, a.seconds(2, float64(v))...)
	case lua.LString:
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			a.bad(2, "number of seconds or table")
		}
		call.words = append(call.words, a.seconds(2, f)...)
	case *lua.LTable:
		if a.piped {
			a.bad(2, "number of seconds")
		}
		call.words = append(call.words, a.setOptions(v)...)
		call.refusal = true
	default:
		a.bad(2, "number of seconds or table")
	}
	return call
}

// seconds is a time to live: none where it is not positive.
func (a *redisArgs) seconds(i int, s float64) []string {
	switch {
	case !(s > 0):
		return nil
	case s > 1e12:
		a.bad(i, "number of seconds")
	case s == math.Trunc(s):
		return []string{"EX", number(lua.LNumber(s))}
	}
	return []string{"PX", number(lua.LNumber(math.Ceil(s * 1000)))}
}

func (a *redisArgs) setOptions(t *lua.LTable) (words []string) {
	take(a.L, 16, 256)
	for _, flag := range []struct{ name, word string }{{"nx", "NX"}, {"xx", "XX"}, {"get", "GET"}, {"keepttl", "KEEPTTL"}} {
		switch v := t.RawGetString(flag.name).(type) {
		case *lua.LNilType:
		case lua.LBool:
			if v {
				words = append(words, flag.word)
			}
		default:
			a.L.RaiseError("bad argument #%d to %s (%s: boolean expected, got %s)", 2+a.first, a.name, flag.name, v.Type())
		}
	}
	for _, opt := range []struct{ name, word string }{{"ex", "EX"}, {"px", "PX"}, {"exat", "EXAT"}, {"pxat", "PXAT"}} {
		switch v := t.RawGetString(opt.name).(type) {
		case *lua.LNilType:
		case lua.LNumber:
			f := math.Trunc(float64(v))
			if !(math.Abs(f) < 1<<53) {
				a.L.RaiseError("bad argument #%d to %s (%s: whole number expected, got %s)", 2+a.first, a.name, opt.name, budget.Of(a.L).Show(v))
			}
			if f > 0 {
				words = append(words, opt.word, number(lua.LNumber(f)))
			}
		default:
			a.L.RaiseError("bad argument #%d to %s (%s: number expected, got %s)", 2+a.first, a.name, opt.name, v.Type())
		}
	}
	return words
}
