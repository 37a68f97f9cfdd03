package modules

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

var redisScriptFuncs = []Func{
	{
		Name: "redis_upload_script", Do: redisUploadScript,
		Sig: "(handle: any, source: string, name?: string) -> sha1: string?, err: string?",
		Doc: "Gives Redis a script of up to 256 KiB, which `redis_run_script` then runs by its name. The name is kept, for all requests until the next reload, even where the server is away just now. At most 256 names. Without a name Redis gets it, and it is run by its `sha1` in Redis alone.",
		Example: `local redis = require("nauthilus_redis")
local sha1, err = redis.redis_upload_script("default", "return redis.call('INCR', KEYS[1])", "Count")
print(sha1) --> 61636018f4e6b5817b89791bbed242f93fa089e3
print(redis.redis_run_script("default", "", "Count", {"logins"}, {})) --> 1	nil`,
	},
	{
		Name: "redis_run_script", Do: redisRunScript,
		Sig: "(handle: any, source: string, name: string?, keys: string[], args: any, ...: any) -> reply: any, err: string?",
		Doc: "Runs a script in Redis, in one step that nobody comes between: the one that was uploaded under `name`, or, where that is `\"\"` or nil, `source`. A Redis that has forgotten it gets it again. In a Cluster all keys must share a slot. `args` is a table, or several values.",
		Example: `local redis = require("nauthilus_redis")
local host = redis.redis_run_script("default", [[
  redis.call("SET", KEYS[1], ARGV[1], "NX")
  return redis.call("GET", KEYS[1])
]], "", {"user:" .. request.account}, "192.0.2.11")
print(host) --> 192.0.2.11`,
	},
}

// A scriptCall is a script to be run: by its name, or where Redis does not know it
// by its source.
type scriptCall struct {
	hash   redisCall // no words: by source alone
	source redisCall
}

// run reads source, name, keys and args. The error is for the script.
func (a *redisArgs) run(r *Redis) (call scriptCall, err error) {
	source, name, keys := a.string(0), a.scriptName(1), []string(nil)
	if len(source) > maxRedisSource {
		a.L.RaiseError("%s: a script of %d bytes, at most %d%s", a.name, len(source), maxRedisSource, a.where)
	}
	switch t := a.at(2).(type) {
	case *lua.LTable:
		keys = a.table(2, t, 'g')
	case *lua.LNilType:
	default:
		a.bad(2, "table of keys")
	}
	words := append([]string{"EVAL", source, strconv.Itoa(len(keys))}, keys...)
	switch t := a.at(3).(type) {
	case *lua.LTable:
		words = append(words, a.table(3, t, 'f')...)
	default:
		if len(a.values) > 3 {
			words = append(words, a.restValues(3)...)
		}
	}
	take(a.L, len(words), 32*len(words))
	call.source = redisCall{words: words, reply: replyAny}
	if len(keys) > 0 {
		call.source.key = 3
	}
	if name == "" {
		return call, nil
	}
	s, err := r.script(name)
	if err != nil {
		return call, err
	}
	words[1] = s.source
	call.hash = call.source
	call.hash.words = append([]string{"EVALSHA", s.sha}, words[2:]...)
	return call, nil
}

// string is argument i, which nothing else than a string will do for.
func (a *redisArgs) string(i int) string {
	s, ok := a.at(i).(lua.LString)
	if !ok {
		a.bad(i, "string")
	}
	return string(s)
}

// scriptName is argument i: a string, "" where it is nil.
func (a *redisArgs) scriptName(i int) string {
	if a.at(i) == lua.LNil {
		return ""
	}
	return a.string(i)
}

func redisRunScript(L *lua.LState) int {
	c := CallOf(L)
	a := argsOf(L, "redis_run_script")
	call, err := a.run(c.redis())
	if err != nil {
		if !c.Network || c.Query.DryRun {
			return sendRedis(L, &call.source) // which says so
		}
		return redisReturn(L, lua.LNil, err)
	}
	if call.hash.words != nil {
		p, r, err := c.askRedis(L, &call.hash)
		var said *valkey.ValkeyError
		if !errors.As(err, &said) || !said.IsNoScript() {
			if err != nil {
				return redisReturn(L, lua.LNil, err)
			}
			v, err := call.hash.result(L, p, r)
			return redisReturn(L, v, err)
		}
	}
	return sendRedis(L, &call.source)
}

func redisUploadScript(L *lua.LState) int {
	c := CallOf(L)
	a := argsOf(L, "redis_upload_script")
	source, name := a.string(0), a.scriptName(1)
	switch {
	case source == "" || len(source) > maxRedisSource:
		L.RaiseError("redis_upload_script: a script of %d bytes; expected 1 to %d", len(source), maxRedisSource)
	case len(name) > 256:
		L.RaiseError("redis_upload_script: a name of %d bytes, at most 256", len(name))
	}
	take(L, len(source)/8, 2*len(source)+256)
	s := newRedisScript(strings.Clone(source))
	if name != "" && c.Network && !c.Query.DryRun && c.Redis != nil {
		if err := c.Redis.keep(strings.Clone(name), s); err != nil {
			return redisReturn(L, lua.LNil, err)
		}
	}
	err := c.reachRedis(L, func() string { return "upload " + clip(name, 64) }, func(ctx context.Context, p *redisPool) error {
		answers, err := p.ask(ctx, func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult {
			return loadScript(ctx, client, s.source)
		})
		if err != nil {
			return err
		}
		for _, r := range answers {
			if err := r.Error(); err != nil {
				return p.plain(err)
			}
		}
		return nil
	})
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	return redisReturn(L, redisString(L, s.sha), nil)
}

// loadScript gives the script to the server: of a Cluster to one; the others get
// it when they are first asked for it.
func loadScript(ctx context.Context, client valkey.Client, source string) []valkey.ValkeyResult {
	return []valkey.ValkeyResult{client.Do(ctx, client.B().ScriptLoad().Script(source).Build())}
}
