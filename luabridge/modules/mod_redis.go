package modules

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

const (
	redisName     = "nauthilus_redis"
	redisPoolType = "nauthilus_redis_connection"
	redisTimeout  = 5 * time.Second
)

// redisModule is nauthilus_redis.
var redisModule = Module{
	Name: redisName, Global: true, Network: true,
	Doc: "Redis or Valkey: the server of the section `redis`, and pools that scripts register. Needs `director.network: true`. " +
		"The first argument is the handle: `\"default\"`, or what `get_redis_connection` returned; anything else means default too. " +
		"What is not there is nil and `redis: nil`; what fails is nil and a text. A call ends after three quarters of what is left of `director.timeout`, so that the policy can still decide.",
	Funcs: redisFuncs(),
	Types: []Type{{Name: redisPoolType, Doc: "A pool, as the first argument of the functions."}},
}

const redisExample = "local redis = require(\"nauthilus_redis\")\n"

func redisFuncs() []Func {
	funcs := []Func{
		{Name: "get_redis_connection", Do: redisConnection,
			Sig: `(name: string) -> pool: userdata?, err: string?`, Doc: "The pool that a script registered under that name.",
			Example: redisExample + "local pool, err = redis.get_redis_connection(\"sessions\")\nprint(pool) --> nil"},
		{Name: "register_redis_pool", Do: redisRegister,
			Sig:     `(name: string, kind: "standalone"|"cluster"|"sentinel"|"sentinel_replica", options: {address?: string, addresses?: string[], master_name?: string, sentinel_username?: string, sentinel_password?: string, username?: string, password?: string, db?: integer, pool_size?: integer, min_idle_conns?: integer, tls_enabled?: boolean, tls_cert_file?: string, tls_key_file?: string}) -> ok: string?, err: string?`,
			Doc:     "Registers a pool, best in an init script: it stays until the next reload. `\"OK\"`; nil and a text if there is one of that name. Nothing is connected yet.",
			Example: redisExample + "print(redis.register_redis_pool(\"sessions\", \"standalone\", {address = \"127.0.0.1:6379\"})) --> OK\tnil"},
	}
	for i := range redisCommands {
		c := &redisCommands[i]
		funcs = append(funcs, Func{
			Name: "redis_" + c.name, Do: redisDo(c),
			Sig: "(handle: any" + afterHandle(c.sig), Doc: c.doc, Example: redisExample + c.example,
		})
	}
	return append(
		funcs,
		Func{Name: "redis_upload_script", Do: redisUpload,
			Sig: `(handle: any, source: string, name: string) -> sha1: string?, err: string?`, Doc: "Loads a script into the server, and remembers it by its name for `redis_run_script`, also when the server is away.",
			Example: redisExample + "print(#redis.redis_upload_script(\"default\", \"return 1\", \"One\")) --> 40"},
		Func{Name: "redis_run_script", Do: redisRun,
			Sig: `(handle: any, source: string, name: string, keys: string[], ...: any) -> reply: any, err: string?`, Doc: "Runs an uploaded script by its name, or, with the name `\"\"`, the source. The arguments are a table or stand one by one. A server that has lost the script gets it again.",
			Example: redisExample + "redis.redis_upload_script(\"default\", \"return {KEYS[1], ARGV[1]}\", \"Echo\")\nprint(redis.redis_run_script(\"default\", \"\", \"Echo\", {\"k\"}, \"v\")[2]) --> v"},
		Func{Name: "redis_pipeline", Do: redisPipeline,
			Sig: `(handle: any, mode: "read"|"write", commands: table[]) -> results: {ok: boolean, value: any, err: string?}[]?, err: string?`, Doc: "Sends several commands at once: rows of a name and its arguments, as `{\"hget\", key, field}`; `{\"run_script\", source, name, keys, arguments}` too. zadd is `key, score, member`, mget and hmget give lists. If the first command that fails has an error of its own, the call is nil and that.",
			Example: redisExample + "local results = redis.redis_pipeline(\"default\", \"write\", {{\"set\", \"k\", \"v\"}, {\"get\", \"k\"}})\nprint(results[2].value) --> v"},
	)
}

// afterHandle is a signature behind its first parameter.
func afterHandle(sig string) string {
	if strings.HasPrefix(sig, "()") {
		return sig[1:]
	}
	return ", " + sig[1:]
}

// poolOf is the pool that a function's first argument names.
func (c *Call) poolOf(v lua.LValue) (*redisPool, error) {
	if ud, ok := v.(*lua.LUserData); ok {
		if p, ok := ud.Value.(*redisPool); ok {
			return p, nil
		}
	}
	if c.Redis == nil || c.Redis.standard == nil {
		return nil, errors.New("redis.addresses is empty: no server is configured")
	}
	return c.Redis.standard, nil
}

// fail pushes nil and an error's text.
func fail(L *lua.LState, err error) int {
	text := err.Error()
	if valkey.IsValkeyNil(err) {
		text = redisNil
	}
	L.Push(lua.LNil)
	L.Push(lua.LString(CallOf(L).Shown(text, 500)))
	return 2
}

// completed is a command for a client: the first key says which node of a Cluster
// it goes to.
func completed(client valkey.Client, words []string, keyAt int) valkey.Completed {
	if keyAt == 0 || keyAt >= len(words) {
		return client.B().Arbitrary(words...).Build()
	}
	return client.B().Arbitrary(words[:keyAt]...).Keys(words[keyAt]).Args(words[keyAt+1:]...).Build()
}

// keyAt is where a command's first key stands; 0: it has none.
func keyAt(words []string) int {
	switch words[0] {
	case "PING", "KEYS", "SCAN", "SCRIPT":
		return 0
	case "EVAL", "EVALSHA":
		if words[2] == "0" {
			return 0
		}
		return 3
	}
	return 1
}

// redisDo is a command's function.
func redisDo(cmd *redisCommand) lua.LGFunction {
	return func(L *lua.LState) int {
		a := redisArgs{L: L}
		for i := 2; i <= L.GetTop(); i++ {
			a.list = append(a.list, L.Get(i))
		}
		for n := len(a.list); n > 0 && a.list[n-1] == lua.LNil; n-- {
			a.list = a.list[:n-1]
		}
		words, err := cmd.build(a)
		if err == nil {
			err = a.pay(words)
		}
		if err != nil {
			return fail(L, fmt.Errorf("redis_%s: %w", cmd.name, err))
		}
		var v lua.LValue
		err = CallOf(L).redis(L, func() string { return strings.Join(words[:min(len(words), 4)], " ") + shownReply(v) }, func(ctx context.Context, client valkey.Client) error {
			m, err := client.Do(ctx, completed(client, words, keyAt(words))).ToMessage()
			if err != nil && !(valkey.IsValkeyNil(err) && cmd.name == "set") {
				return err
			}
			v, err = cmd.reply(a, words, m)
			return err
		})
		if err != nil {
			return fail(L, err)
		}
		L.Push(v)
		L.Push(lua.LNil)
		return 2
	}
}

// shownReply is a value for traces.
func shownReply(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString:
		return fmt.Sprintf(" -> %.80q", string(v))
	case lua.LNumber, lua.LBool:
		return " -> " + v.String()
	}
	return ""
}

// redis calls the server of the function's first argument.
func (c *Call) redis(L *lua.LState, what func() string, do func(ctx context.Context, client valkey.Client) error) error {
	ctx, done, err := c.reach(L, redisName, redisTimeout, what)
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	pool, err := c.poolOf(L.Get(1))
	if err != nil {
		return err
	}
	client, err := pool.get(ctx)
	if err != nil {
		return err
	}
	err = do(ctx, client)
	return err
}

func redisConnection(L *lua.LState) int {
	name := checkText(L, 1, "get_redis_connection")
	c := CallOf(L)
	var p *redisPool
	if c.Redis != nil {
		if p = c.Redis.pool(name); p == nil && name == "default" {
			p = c.Redis.standard
		}
	}
	if p == nil {
		return fail(L, fmt.Errorf("no redis pool %q is registered", c.Shown(name, 64)))
	}
	L.Push(&lua.LUserData{Value: p, Metatable: lua.LNil})
	L.Push(lua.LNil)
	return 2
}

func redisRegister(L *lua.LState) int {
	name, kind := checkText(L, 1, "register_redis_pool"), checkText(L, 2, "register_redis_pool")
	t, ok := L.Get(3).(*lua.LTable)
	if !ok {
		argError(L, 3, "register_redis_pool", "table")
	}
	c := CallOf(L)
	if !c.Network {
		L.RaiseError("%s: director.network is false, so that policies reach no network", redisName)
	}
	take(L, 100, 4096)
	opt, err := poolOptions(L, RedisKind(kind), t)
	switch {
	case err != nil:
	case c.Query.DryRun:
		_, err = newRedisPool(opt)
	case c.Redis == nil:
		err = errors.New("no pools can be registered here")
	default:
		err = c.Redis.register(strings.Clone(name), opt)
	}
	if err != nil {
		return fail(L, fmt.Errorf("redis pool %q: %w", c.Shown(name, 64), err))
	}
	L.Push(lua.LString("OK"))
	L.Push(lua.LNil)
	return 2
}

// poolOptions reads the options of register_redis_pool.
func poolOptions(L *lua.LState, kind RedisKind, t *lua.LTable) (RedisOptions, error) {
	text := func(name string) string {
		s, _ := t.RawGetString(name).(lua.LString)
		take(L, 1, len(s))
		return strings.Clone(string(s))
	}
	opt := RedisOptions{
		Kind: kind, MasterName: text("master_name"), Username: text("username"), Password: proxy.NewSecret(text("password")),
		SentinelUsername: text("sentinel_username"), SentinelPassword: proxy.NewSecret(text("sentinel_password")),
		DB: int(lua.LVAsNumber(t.RawGetString("db"))), PoolSize: int(lua.LVAsNumber(t.RawGetString("pool_size"))),
	}
	if list, ok := t.RawGetString("addresses").(*lua.LTable); ok {
		each(L, list, func(_, v lua.LValue) { opt.Addresses = append(opt.Addresses, strings.Clone(v.String())) })
	}
	if a := text("address"); a != "" && len(opt.Addresses) == 0 {
		opt.Addresses = strings.Split(a, ",")
	}
	if len(opt.Addresses) > 64 || slices.Contains(opt.Addresses, "") {
		return opt, errors.New("bad addresses; expected one to 64 of HOST:PORT")
	}
	if lua.LVAsBool(t.RawGetString("tls_enabled")) {
		opt.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if cert, key := text("tls_cert_file"), text("tls_key_file"); cert != "" {
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				return opt, err
			}
			opt.TLS.Certificates = []tls.Certificate{pair}
		}
	}
	return opt, nil
}
