package modules

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

const (
	redisName   = "nauthilus_redis"
	defaultPool = "default"
	// redisPatience is how long a command may take, where the request has longer.
	redisPatience = 10 * time.Second
)

// redisConnection is what get_redis_connection returns: the handle of a pool.
var redisConnection = Type{Name: "nauthilus_redis_connection", Doc: "A Redis that was registered by `register_redis_pool`: the first argument of each function."}

var redisModule = Module{
	Name: redisName, Global: true, Network: true,
	Doc: "Redis or Valkey: what all ushers share. Needs `director.network: true`. The first argument, `handle`, says which server: `\"default\"` is that of the configuration's section `redis`, " +
		"another is what `get_redis_connection` returned; anything else means the default too. A function returns nil and a text when it fails, `\"redis: nil\"` where there is no such key, field or member. " +
		"A call ends after three quarters of what is left of `director.timeout`, so that the policy can still decide. Of a server that answered nobody for a while one call at a time waits, and the others fail at once. Reads are tried again on a new connection, writes never. " +
		"Values are strings, numbers (written without an exponent), booleans (1 and 0) or nil (an empty text). An empty table of keys or values is no error: nothing is asked.",
	Funcs:  slices.Concat(redisPoolFuncs, redisStringFuncs, redisHashFuncs, redisSetFuncs, redisSortedFuncs, redisListFuncs, redisScriptFuncs, []Func{pipelineFunc}),
	Types:  []Type{redisConnection},
	Finish: func(L *lua.LState, _ *lua.LTable) { redisConnection.register(L) },
}

// A redisCall is a command and what to make of its answer.
type redisCall struct {
	words []string
	key   int  // index of the first key in words, which says who has it; 0: none
	read  bool // may be tried again
	reply redisReply
	// refusal: nil is an answer and not a lack.
	refusal bool
}

// A redisBuild reads the arguments of a command.
type redisBuild func(a *redisArgs) redisCall

func reading(reply redisReply, words ...string) redisCall {
	return redisCall{words: words, key: 1, read: true, reply: reply}
}

func writing(reply redisReply, words ...string) redisCall {
	return redisCall{words: words, key: 1, reply: reply}
}

func (call *redisCall) completed(b valkey.Builder) valkey.Completed {
	cmd := b.Arbitrary(call.words[0])
	if call.key > 0 {
		// A Cluster is asked by the first; of others elsewhere it complains itself.
		cmd = cmd.Args(call.words[1:call.key]...).Keys(call.words[call.key]).Args(call.words[call.key+1:]...)
	} else {
		cmd = cmd.Args(call.words[1:]...)
	}
	if call.read {
		return cmd.ReadOnly()
	}
	return cmd.Build()
}

// shown is the command for usher route: without values.
func (call *redisCall) shown() string {
	s := strings.ToLower(call.words[0])
	if call.key > 0 {
		s += " " + clip(call.words[call.key], 100)
	}
	return s
}

// shownAnswer is an answer for usher route, if it is a text or a number.
func shownAnswer(r valkey.ValkeyResult) string {
	if s, err := r.ToString(); err == nil {
		return fmt.Sprintf(" -> %.80q", s)
	}
	if n, err := r.ToInt64(); err == nil {
		return fmt.Sprintf(" -> %d", n)
	}
	return ""
}

// result makes Lua of an answer; the error is for the script.
func (call *redisCall) result(L *lua.LState, p *redisPool, r valkey.ValkeyResult) (lua.LValue, error) {
	m, err := r.ToMessage()
	if err != nil {
		if call.refusal && valkey.IsValkeyNil(err) {
			return lua.LNil, nil
		}
		return lua.LNil, p.plain(err)
	}
	v, err := call.reply(L, &m)
	if err != nil {
		return lua.LNil, p.plain(err)
	}
	return v, nil
}

// redisBuilds are the commands by name, as redisFunc noted them.
var redisBuilds = map[string]redisBuild{}

// redisFunc is a function of the module that sends one command.
func redisFunc(name string, build redisBuild, sig, doc, example string) Func {
	redisBuilds[name] = build
	do := func(L *lua.LState) int {
		a := argsOf(L, "redis_"+name)
		call := build(&a)
		if a.nothing && CallOf(L).Network {
			return redisReturn(L, redisNothing(L, name), nil)
		}
		return sendRedis(L, &call)
	}
	return Func{Name: "redis_" + name, Do: do, Sig: sig, Doc: doc, Example: "local redis = require(\"nauthilus_redis\")\n" + example}
}

// redisNothing is what a function returns for an empty table of keys or values: as
// Nauthilus, which does not ask the server for that.
func redisNothing(L *lua.LState, name string) lua.LValue {
	switch name {
	case "mget", "hmget":
		take(L, 1, 96)
		return L.CreateTable(0, 0)
	case "mset", "pfmerge":
		return lua.LString("OK")
	}
	return lua.LNumber(0)
}

// argsOf are the arguments behind the handle.
func argsOf(L *lua.LState, name string) redisArgs {
	n := max(L.GetTop()-1, 0)
	take(L, n, 16*n)
	a := redisArgs{L: L, name: name, first: 2, values: make([]lua.LValue, n)}
	for i := range n {
		a.values[i] = L.Get(i + 2)
	}
	return a
}

// handle is the pool that the first argument means.
func (c *Call) handle(L *lua.LState) (*redisPool, error) {
	if ud, ok := L.Get(1).(*lua.LUserData); ok {
		if p, ok := ud.Value.(*redisPool); ok {
			return p, nil
		}
	}
	return c.redis().pool(defaultPool)
}

// redis is the policy's, or one without servers.
func (c *Call) redis() *Redis {
	if c.Redis == nil {
		return &Redis{}
	}
	return c.Redis
}

// reachRedis runs f with the pool of the first argument, as a network call.
func (c *Call) reachRedis(L *lua.LState, what func() string, f func(ctx context.Context, p *redisPool) error) error {
	ctx, done, err := c.reach(L, redisName, redisPatience, what)
	if err != nil {
		return err
	}
	p, err := c.handle(L)
	if err == nil {
		err = f(ctx, p)
	}
	done(err)
	return err
}

// askRedis sends one command and returns its answer.
func (c *Call) askRedis(L *lua.LState, call *redisCall) (p *redisPool, r valkey.ValkeyResult, err error) {
	answered := false
	shown := func() string {
		if !answered {
			return call.shown()
		}
		return call.shown() + shownAnswer(r)
	}
	err = c.reachRedis(L, shown, func(ctx context.Context, pool *redisPool) error {
		p = pool
		answers, err := p.ask(ctx, func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult {
			return []valkey.ValkeyResult{client.Do(ctx, call.completed(client.B()))}
		})
		if err != nil {
			return err
		}
		r, answered = answers[0], true
		return p.plain(r.Error())
	})
	return p, r, err
}

func sendRedis(L *lua.LState, call *redisCall) int {
	p, r, err := CallOf(L).askRedis(L, call)
	if err != nil && (!call.refusal || err != errRedisNil) { //nolint:errorlint // plain returns it as it is
		return redisReturn(L, lua.LNil, err)
	}
	v, err := call.result(L, p, r)
	return redisReturn(L, v, err)
}

func redisReturn(L *lua.LState, v lua.LValue, err error) int {
	L.Push(v)
	if err == nil {
		L.Push(lua.LNil)
	} else {
		L.Push(redisString(L, clip(err.Error(), 1000)))
	}
	return 2
}
