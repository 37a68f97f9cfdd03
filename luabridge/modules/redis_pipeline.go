package modules

import (
	"context"
	"fmt"
	"strconv"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

// maxPipeline is how many commands one pipeline has at most.
const maxPipeline = 1000

// A pipelined is one row of a pipeline.
type pipelined struct {
	cmd    *redisCommand // nil: a script
	script redisScript
	args   redisArgs
	words  []string
}

var pipelineCommands = func() map[string]*redisCommand {
	m := map[string]*redisCommand{}
	for i := range redisCommands {
		m[redisCommands[i].name] = &redisCommands[i]
	}
	delete(m, "keys") // nothing to be done in a row with others
	delete(m, "scan")
	zadd := *m["zadd"]
	zadd.build = buildScoreFirst
	m["zadd"] = &zadd
	set := *m["set"]
	set.inPipeline = replyText
	m["set"] = &set
	return m
}()

// redisPipeline sends several commands at once.
func redisPipeline(L *lua.LState) int {
	checkText(L, 2, "redis_pipeline") // the mode, "read" or "write": there is one server
	t, ok := L.Get(3).(*lua.LTable)
	if !ok {
		argError(L, 3, "redis_pipeline", "table of commands")
	}
	c := CallOf(L)
	var rows []pipelined
	for i := 1; ; i++ {
		v := t.RawGetInt(i)
		if v == lua.LNil {
			break
		}
		if i > maxPipeline {
			return fail(L, fmt.Errorf("redis_pipeline: over %d commands", maxPipeline))
		}
		row, err := c.pipelineRow(L, v, i)
		if err != nil {
			return fail(L, err)
		}
		rows = append(rows, row)
	}
	results := L.CreateTable(len(rows), 0)
	if len(rows) == 0 {
		L.Push(results)
		L.Push(lua.LNil)
		return 2
	}
	err := c.redis(L, func() string { return "pipeline of " + strconv.Itoa(len(rows)) }, func(ctx context.Context, client valkey.Client) error {
		return runPipeline(ctx, L, client, rows, results)
	})
	if err != nil {
		return fail(L, err)
	}
	L.Push(results)
	L.Push(lua.LNil)
	return 2
}

// pipelineRow reads {name, argument, …}.
func (c *Call) pipelineRow(L *lua.LState, v lua.LValue, i int) (p pipelined, err error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return p, fmt.Errorf("pipeline command at index %d must be a table", i)
	}
	name, ok := t.RawGetInt(1).(lua.LString)
	if !ok {
		return p, fmt.Errorf("pipeline command at index %d has no name", i)
	}
	p.args.L = L
	n := t.Len()
	take(L, n, 16*n)
	for j := 2; j <= n; j++ {
		p.args.list = append(p.args.list, t.RawGetInt(j))
	}
	if name == "run_script" {
		if p.script, err = c.scriptOf(p.args); err == nil {
			err = p.args.pay(append(p.script.rest, p.script.source))
		}
	} else {
		p.cmd = pipelineCommands[string(name)]
		if p.cmd == nil {
			return p, fmt.Errorf("unsupported pipeline command: %s", c.Shown(string(name), 64))
		}
		if p.words, err = p.cmd.build(p.args); err == nil {
			err = p.args.pay(p.words)
		}
	}
	if err != nil {
		err = fmt.Errorf("pipeline command at index %d: %w", i, err)
	}
	return p, err
}

// runPipeline fills results. The first command that fails with an error of its
// own fails the whole.
func runPipeline(ctx context.Context, L *lua.LState, client valkey.Client, rows []pipelined, results *lua.LTable) error {
	commands := make([]valkey.Completed, len(rows))
	for i := range rows {
		if rows[i].cmd == nil {
			commands[i] = rows[i].script.byHash(client)
		} else {
			commands[i] = completed(client, rows[i].words, keyAt(rows[i].words))
		}
	}
	first := true
	for i, answer := range client.DoMulti(ctx, commands...) {
		row := &rows[i]
		m, err := answer.ToMessage()
		if row.cmd == nil && noScript(err) {
			m, err = client.Do(ctx, row.script.bySource(client)).ToMessage()
		}
		var v lua.LValue = lua.LNil
		if err == nil {
			reply := redisReply(replyAny)
			if row.cmd != nil {
				if reply = row.cmd.reply; row.cmd.inPipeline != nil {
					reply = row.cmd.inPipeline
				}
			}
			v, err = reply(row.args, row.words, m)
		}
		entry := L.CreateTable(0, 3)
		take(L, 4, 512)
		switch {
		case err == nil:
			entry.RawSetString("ok", lua.LTrue)
			entry.RawSetString("value", v)
		case valkey.IsValkeyNil(err):
			first = false
			entry.RawSetString("ok", lua.LTrue)
		default:
			if first {
				return err
			}
			entry.RawSetString("ok", lua.LFalse)
			entry.RawSetString("err", lua.LString(CallOf(L).Shown(err.Error(), 500)))
		}
		results.Append(entry)
	}
	return nil
}
