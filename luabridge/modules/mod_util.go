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
			logArgs(L, name, level, 1)
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
			level, ok := levels[strings.ToLower(L.OptString(2, "info"))]
			if !ok {
				level = zap.InfoLevel
			}
			L.Remove(2)
			logArgs(L, "log", level, 1)
			return 0
		},
		"print_result": leveled("print_result", zap.InfoLevel),
	})
}

var levels = map[string]zapcore.Level{
	"debug": zap.DebugLevel, "info": zap.InfoLevel, "notice": zap.InfoLevel,
	"warn": zap.WarnLevel, "warning": zap.WarnLevel, "error": zap.ErrorLevel,
}

// logArgs logs (text), (logging, text or table) or (logging, text or table,
// err). The request's or the configuration's own level decides what is shown.
func logArgs(L *lua.LState, name string, level zapcore.Level, first int) {
	c := CallOf(L)
	ce := c.Log.Check(level, "policy")
	if ce == nil {
		return
	}
	what, fault := L.Get(first), lua.LValue(lua.LNil)
	if _, plain := what.(lua.LString); !plain || L.GetTop() > first {
		if L.GetTop() > first {
			what, fault = L.Get(first+1), L.Get(first+2)
		}
	}
	fields := []zap.Field{zap.String("script", c.Script), zap.String("id", c.Query.ID)}
	switch v := what.(type) {
	case *lua.LTable:
		n := 0
		v.ForEach(func(k, v lua.LValue) {
			if n++; n <= maxLogs {
				fields = append(fields, zap.String(clip(k.String(), 64), clip(c.Redact(v.String()), 4096)))
			}
		})
	case *lua.LNilType:
		argError(L, first+1, name, "string or table")
	default:
		fields = append(fields, zap.String("text", clip(c.Redact(v.String()), 4096)))
	}
	if fault != lua.LNil {
		fields = append(fields, zap.String("error", clip(c.Redact(fault.String()), 4096)))
	}
	ce.Write(fields...)
}
