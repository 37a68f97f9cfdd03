package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// utilModule is nauthilus_util. Its logging functions take a plain text too, as
// the reference page's example does.
var utilModule = Module{
	Name: "nauthilus_util", Global: true,
	Funcs: []Func{
		{Name: "log_debug", Do: logAt("log_debug", zap.DebugLevel)},
		{Name: "log_info", Do: logAt("log_info", zap.InfoLevel)},
		{Name: "log_notice", Do: logAt("log_notice", zap.InfoLevel)},
		{Name: "log_warn", Do: logAt("log_warn", zap.WarnLevel)},
		{Name: "log_error", Do: logAt("log_error", zap.ErrorLevel)},
		{Name: "log", Do: logNamed},
		{Name: "print_result", Do: logAt("print_result", zap.InfoLevel)},
	},
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
		if least, ok := loggingLevel(what); ok && level < least && name != "print_result" {
			shown = false
		}
		what, fault, n = L.Get(2), L.Get(3), 2
	}
	if what == lua.LNil {
		argError(L, n, name, "string or table")
	}
	if !shown {
		return
	}
	var fields []zap.Field
	switch v := what.(type) {
	case *lua.LTable:
		for k, x := v.Next(lua.LNil); k != lua.LNil && len(fields) < maxLogs; k, x = v.Next(k) {
			fields = append(fields, zap.String(c.Shown(k.String(), 64), c.Text(L, x)))
		}
	default:
		fields = append(fields, zap.String("text", c.Text(L, v)))
	}
	if fault != lua.LNil {
		fields = append(fields, zap.String("error", c.Text(L, fault)))
	}
	c.LogLine(level, fields...)
}

// loggingLevel is the level that a script's logging argument names.
func loggingLevel(logging lua.LValue) (zapcore.Level, bool) {
	t, ok := logging.(*lua.LTable)
	if !ok {
		return 0, false
	}
	name, ok := t.RawGetString("log_level").(lua.LString)
	if !ok {
		return 0, false
	}
	return levelOf(string(name))
}
