package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/luabridge/budget"
)

// utilModule is nauthilus_util. Its logging functions take a plain text too, as
// the reference page's example does.
var utilModule = Module{
	Name: "nauthilus_util", Global: true,
	Doc: "Small helpers, and the log. A log function takes `(logging, text or table[, err])`, where logging is `request` or `request.logging`, or a text alone; what is below `logging.log_level` is dropped.",
	Funcs: []Func{
		{Name: "getenv", Do: utilGetenv,
			Sig:     `(name: string, default?: any) -> value: any`,
			Doc:     "The environment variable, if `director.env` names it and it is set; else the default. The answer, the default too, is kept in nauthilus_cache as `env:NAME` until the next reload.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.getenv(\"NO_SUCH_VARIABLE\", \"north\")) --> north"},
		{Name: "get_redis_key", Do: utilRedisKey,
			Sig:     `(request: table?, key: string) -> key: string`,
			Doc:     "The key with `request.redis_prefix` before it; as it is without a request or prefix.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.get_redis_key({redis_prefix = \"nt:\"}, \"DS:alice\")) --> nt:DS:alice"},
		{Name: "exists_in_table", Do: utilExists,
			Sig:     `(t: table, value: any) -> found: boolean`,
			Doc:     "Whether a value is in a table, under whatever key.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.exists_in_table({\"imap\", \"pop3\"}, request.protocol)) --> true"},
		{Name: "table_length", Do: utilLength,
			Sig:     `(t: table) -> n: integer`,
			Doc:     "How many keys a table has, those that are no numbers too.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.table_length({1, 2, a = 3})) --> 3"},
		{Name: "is_table", Do: isKind(lua.LTTable),
			Sig: `(x: any) -> yes: boolean`, Doc: "Whether a value is a table.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.is_table({}), util.is_table(\"\")) --> true\tfalse"},
		{Name: "is_string", Do: isKind(lua.LTString),
			Sig: `(x: any) -> yes: boolean`, Doc: "Whether a value is a string.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.is_string(request.username)) --> true"},
		{Name: "is_number", Do: isKind(lua.LTNumber),
			Sig: `(x: any) -> yes: boolean`, Doc: "Whether a value is a number.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.is_number(143), util.is_number(\"143\")) --> true\tfalse"},
		{Name: "generate_random_string", Do: utilRandomString,
			Sig:     `(length: integer) -> text: string`,
			Doc:     "A text of random letters and digits, fit for a secret; 4096 bytes at most.",
			Example: "local util = require(\"nauthilus_util\")\nprint(#util.generate_random_string(8)) --> 8"},
		{Name: "toboolean", Do: utilToBoolean,
			Sig:     `(text: string|number|boolean) -> value: boolean`,
			Doc:     "False for `\"\"`, `0` and `false`, in any case; true for all else. nil raises an error.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.toboolean(\"False\"), util.toboolean(\"1\")) --> false\ttrue"},
		{Name: "if_error_raise", Do: utilRaise,
			Sig:     `(err: any)`,
			Doc:     "Raises the error, unless it is nil, false, `redis: nil` or `OK`: the login is told to try later.",
			Example: "local util = require(\"nauthilus_util\")\nutil.if_error_raise(\"redis: nil\")\nprint(pcall(util.if_error_raise, \"away\")) --> false\taway"},
		{Name: "get_current_timestamp", Do: utilTimestamp,
			Sig:     `() -> time: string`,
			Doc:     "The time as `2026-01-21T15:00:00 +01:00`, in the zone that the environment variable TZ names, else UTC.",
			Example: "local util = require(\"nauthilus_util\")\nprint(#util.get_current_timestamp()) --> 26"},
		{Name: "is_routable_ip", Do: utilRoutable,
			Sig:     `(ip: string) -> yes: boolean`,
			Doc:     "Whether an address is one of the public internet: false for private, local, documentation and multicast ones, and for what is no address.",
			Example: "local util = require(\"nauthilus_util\")\nprint(util.is_routable_ip(\"9.9.9.9\"), util.is_routable_ip(\"10.1.2.3\")) --> true\tfalse"},
		logFunc("log_debug", zap.DebugLevel), logFunc("log_info", zap.InfoLevel), logFunc("log_notice", zap.InfoLevel),
		logFunc("log_warn", zap.WarnLevel), logFunc("log_error", zap.ErrorLevel),
		{Name: "log", Do: logNamed,
			Sig:     `(logging: table, level: string, what: string|table, err?: any)`,
			Doc:     "Logs at a level by its name: debug, info, notice, warn or error; an unknown one is info.",
			Example: "local util = require(\"nauthilus_util\")\nutil.log(request.logging, \"info\", {site = \"north\"})\nprint(\"logged\") --> logged"},
		{Name: "print_result", Do: logAt("print_result", zap.InfoLevel),
			Sig:     `(logging: table, what: string|table, err?: any)`,
			Doc:     "Logs whatever `logging.log_level` says.",
			Example: "local util = require(\"nauthilus_util\")\nutil.print_result(request.logging, {site = \"north\"})\nprint(\"logged\") --> logged"},
	},
}

func logFunc(name string, level zapcore.Level) Func {
	return Func{
		Name: name, Do: logAt(name, level),
		Sig:     `(logging: table, what: string|table, err?: any)`,
		Forms:   []string{`(text: string, err?: any)`},
		Doc:     "Logs a text, or the fields of a table, those that are tables as JSON, at level `" + level.String() + "`.",
		Example: "local util = require(\"nauthilus_util\")\nutil." + name + "(request.logging, {site = \"north\"})\nutil." + name + "(\"a text will do\")\nprint(\"logged\") --> logged",
	}
}

func logAt(name string, level zapcore.Level) lua.LGFunction {
	return func(L *lua.LState) int {
		logArgs(L, name, level)
		return 0
	}
}

// logNamed is log(logging, level, t, err).
func logNamed(L *lua.LState) int {
	level, ok := levelOf(L.OptString(2, "info"))
	if !ok {
		level = zap.InfoLevel
	}
	L.Remove(2)
	logArgs(L, "log", level)
	return 0
}

var levels = map[string]zapcore.Level{
	"debug": zap.DebugLevel, "info": zap.InfoLevel, "notice": zap.InfoLevel,
	"warn": zap.WarnLevel, "warning": zap.WarnLevel, "error": zap.ErrorLevel,
}

// levelOf is the level of a name, whatever its case.
func levelOf(name string) (zapcore.Level, bool) {
	if len(name) > len("warning") {
		return 0, false
	}
	level, ok := levels[strings.ToLower(name)]
	return level, ok
}

// logArgs logs (text), (text, err), (logging, text or table) or (logging, text
// or table, err). What is below the level of the log, or below
// logging.log_level, is dropped.
func logArgs(L *lua.LState, name string, level zapcore.Level) {
	c := CallOf(L)
	what, fault, n := L.Get(1), L.Get(2), 1
	shown := c.Logs(level)
	if _, plain := what.(lua.LString); !plain && L.GetTop() > 1 {
		if least, ok := loggingLevel(L, what); ok && level < least && name != "print_result" {
			shown = false
		}
		what, fault, n = L.Get(2), L.Get(3), 2
	}
	if what == lua.LNil {
		argError(L, n, name, "string or table")
	}
	if t, ok := what.(*lua.LTable); ok && n == 2 { // as Nauthilus does: scripts may look
		budget.Of(L).Store(L, t, -1)
		t.RawSetString("level", lua.LString(levelName(name, level)))
		t.RawSetString("ts", lua.LString(timestamp(c)))
	}
	if !shown {
		return
	}
	var fields []zap.Field
	switch v := what.(type) {
	case *lua.LTable:
		for k, x := v.Next(lua.LNil); k != lua.LNil && len(fields) < maxLogs; k, x = v.Next(k) {
			if k != lua.LString("level") && k != lua.LString("ts") { // the line has them
				fields = append(fields, c.logField(L, c.Shown(k.String(), 64), x))
			}
		}
	default:
		fields = append(fields, zap.String("text", c.Text(L, v)))
	}
	if fault != lua.LNil {
		fields = append(fields, zap.String("error", c.Text(L, fault)))
	}
	c.LogLine(level, fields...)
}

// logField is a field of a log line: numbers and booleans as they are, tables as
// JSON, all else as text.
func (c *Call) logField(L *lua.LState, name string, v lua.LValue) zap.Field {
	switch v := v.(type) {
	case lua.LNumber:
		if s := v.String(); c.Redact(s) == s { // a password may be digits
			return zap.Float64(name, float64(v))
		}
	case lua.LBool:
		return zap.Bool(name, bool(v))
	case *lua.LTable:
		if L.GetMetaField(v, "__tostring") != lua.LNil {
			break
		}
		// Secrets are starred before they are quoted: quoted they might not be known.
		e := &jsonEncoder{L: L, shown: func(s string) string { return c.Shown(s, MaxText) }}
		if err := e.value(v, 0); err == nil {
			return zap.String(name, clip(e.out.String(), MaxText))
		}
	}
	return zap.String(name, c.Text(L, v))
}

// levelName is a level as Nauthilus writes it.
func levelName(function string, level zapcore.Level) string {
	if function == "log_notice" {
		return "notice"
	}
	return level.String()
}

// loggingLevel is the level that a script's logging argument names; an unknown one
// is info.
func loggingLevel(L *lua.LState, logging lua.LValue) (zapcore.Level, bool) {
	t, ok := logging.(*lua.LTable)
	if !ok {
		return 0, false
	}
	name, _ := L.GetField(t, "log_level").(lua.LString) // it may be the request
	level, ok := levelOf(string(name))
	if !ok {
		level = zap.InfoLevel
	}
	return level, true
}
