package modules

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

const maxPipeline = 1000 // commands

var pipelineFunc = Func{
	Name: "redis_pipeline", Do: redisPipeline,
	Sig: `(handle: any, mode: "read"|"write", commands: any[][]) -> results: {ok: boolean, value?: any, err?: string}[]?, err: string?`,
	Doc: "Sends up to 1000 commands at once and returns what came of each, in their order. A command is a list: its name without `redis_`, then its arguments without the handle; `zadd` takes key, score, member, `set` no other option than seconds, `run_script` source, name, keys, arguments. " +
		"Where nothing is there `ok` is true and there is no value; `mget` and `hmget` are lists without what is not there. If the first command to fail has a real error, the whole call returns nil and that error.",
	Example: `local redis = require("nauthilus_redis")
local results, err = redis.redis_pipeline("default", "write", {
  {"hset", "user:alice", "host", "192.0.2.11"},
  {"expire", "user:alice", 3600},
  {"hget", "user:alice", "host"},
})
if not results then error(err) end
print(#results, results[1].value, results[2].value, results[3].value) --> 3	1	true	192.0.2.11`,
}

func redisPipeline(L *lua.LState) int {
	c := CallOf(L)
	mode := L.Get(2)
	if mode != lua.LString("read") && mode != lua.LString("write") {
		argError(L, 2, "redis_pipeline", `"read" or "write"`)
	}
	list, ok := L.Get(3).(*lua.LTable)
	if !ok {
		argError(L, 3, "redis_pipeline", "table of commands")
	}
	calls, err := c.pipeCalls(L, list)
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	var pool *redisPool
	var answers []valkey.ValkeyResult
	err = c.reachRedis(L, func() string { return fmt.Sprintf("pipeline of %d", len(calls)) }, func(ctx context.Context, p *redisPool) (err error) {
		pool = p
		if len(calls) == 0 {
			return nil
		}
		if answers, err = p.ask(ctx, func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult {
			commands := make([]valkey.Completed, len(calls))
			for i := range calls {
				commands[i] = calls[i].completed(client.B())
			}
			return client.DoMulti(ctx, commands...)
		}); err != nil {
			return err
		}
		for _, r := range answers {
			switch err := p.plain(r.Error()); {
			case err == nil:
			case errors.Is(err, errRedisNil): // it failed first, and only lacked something
				return nil
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	take(L, 8*len(answers), 512*len(answers))
	results := L.CreateTable(len(answers), 0)
	for i := range answers {
		calls[i].refusal = true // what is not there is ok, and no value
		v, err := calls[i].result(L, pool, answers[i])
		entry := L.CreateTable(0, 2)
		entry.RawSetString("ok", lua.LBool(err == nil))
		if err != nil {
			entry.RawSetString("err", redisString(L, clip(err.Error(), 1000)))
		} else if v != lua.LNil {
			entry.RawSetString("value", v)
		}
		results.Append(entry)
	}
	return redisReturn(L, results, nil)
}

// pipeCalls reads the commands of a pipeline. The error is for the script.
func (c *Call) pipeCalls(L *lua.LState, list *lua.LTable) ([]redisCall, error) {
	n := budget.Of(L).Len(L, list)
	if n > maxPipeline {
		L.RaiseError("redis_pipeline: %d commands, at most %d", n, maxPipeline)
	}
	take(L, 16*n, 256*n)
	calls := make([]redisCall, 0, n)
	for i := 1; i <= n; i++ {
		t, ok := list.RawGetInt(i).(*lua.LTable)
		if !ok {
			L.RaiseError("bad argument #3 to redis_pipeline (table of commands expected, its element %d is a %s)", i, list.RawGetInt(i).Type())
		}
		name, ok := t.RawGetInt(1).(lua.LString)
		if !ok {
			L.RaiseError("bad argument #3 to redis_pipeline (command %d has no name)", i)
		}
		a := redisArgs{L: L, name: string(name), first: 1, where: fmt.Sprintf(" in command %d of redis_pipeline", i), piped: true}
		size := budget.Of(L).Len(L, t)
		take(L, 2*size, 16*size)
		for j := 2; j <= size; j++ {
			a.values = append(a.values, t.RawGetInt(j))
		}
		if a.name == "run_script" {
			// By its source: after NOSCRIPT it would come late, and out of turn.
			call, err := a.run(c.redis())
			if err != nil {
				return nil, err
			}
			calls = append(calls, call.source)
			continue
		}
		build := redisBuilds[a.name]
		if build == nil {
			return nil, fmt.Errorf("unsupported pipeline command: %s", clip(strings.ToValidUTF8(a.name, "?"), 64))
		}
		calls = append(calls, build(&a))
	}
	return calls, nil
}
