package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newUtil makes nauthilus_util: its logging. Each function takes a plain text
// too, as the reference page's example does.
func newUtil(L *lua.LState) *lua.LTable {
	leveled := func(name string, level zapcore.Level) lua.LGFunction {
		return func(L *lua.LState) int {
			logArgs(L, name, level)
			return 0
		}
	}
	return table(L, map[string]lua.LGFunction{
		"log_debug":  leveled("log_debug", zap.DebugLevel),
		"log_info":   leveled("log_info", zap.InfoLevel),
		"log_notice": leveled("log_notice", zap.InfoLevel),
		"log_warn":   leveled("log_warn", zap.WarnLevel),
		"log_error":  leveled("log_error", zap.ErrorLevel),
		// log(logging, level, t, err)
		"log": func(L *lua.LState) int {
			level, ok := levelOf(L.OptString(2, "info"))
			if !ok {
				level = zap.InfoLevel
			}
			L.Remove(2)
			logArgs(L, "log", level)
			return 0
		},
		"print_result": leveled("print_result", zap.InfoLevel),
	})
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
