package modules

import (
	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// maxLogs bounds what custom_log_add may put into one decision's log line.
const maxLogs = 64

// newBuiltin makes nauthilus_builtin: Nauthilus 1.12's constants of every
// script type, and its two functions.
func newBuiltin(L *lua.LState) *lua.LTable {
	t := table(L, map[string]lua.LGFunction{
		"status_message_set": statusMessageSet,
		"custom_log_add":     customLogAdd,
	})
	for name, v := range map[string]lua.LValue{
		"FILTER_ACCEPT":       lua.LFalse,
		"FILTER_REJECT":       lua.LTrue,
		"FEATURE_TRIGGER_NO":  lua.LFalse,
		"FEATURE_TRIGGER_YES": lua.LTrue,
		"FEATURES_ABORT_NO":   lua.LFalse,
		"FEATURES_ABORT_YES":  lua.LTrue,
		"FILTER_RESULT_OK":    lua.LNumber(0),
		"FILTER_RESULT_FAIL":  lua.LNumber(1),
		"FEATURE_RESULT_OK":   lua.LNumber(0),
		"FEATURE_RESULT_FAIL": lua.LNumber(1),
		"BACKEND_RESULT_OK":   lua.LNumber(0),
		"BACKEND_RESULT_FAIL": lua.LNumber(1),
		"ACTION_RESULT_OK":    lua.LNumber(0),
		"ACTION_RESULT_FAIL":  lua.LNumber(1),
	} {
		t.RawSetString(name, v)
	}
	return t
}

// statusMessageSet sets the text that a refused client is shown.
func statusMessageSet(L *lua.LState) int {
	text, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "status_message_set", "string")
	}
	c := CallOf(L)
	take(L, min(len(text), 2*MaxText)/16, min(len(text), 2*MaxText))
	c.Verdict.Text, c.textSet = c.Shown(string(text), MaxText), true
	return 0
}

// customLogAdd adds a field to the decision's log line.
func customLogAdd(L *lua.LState) int {
	key, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "custom_log_add", "string")
	}
	c := CallOf(L)
	if len(c.Verdict.Logs) >= maxLogs {
		return 0
	}
	value := "UNSUPPORTED"
	switch v := L.Get(2).(type) {
	case lua.LString, lua.LBool:
		value = v.String()
	case lua.LNumber:
		value = number(v)
	}
	c.Verdict.Logs = append(c.Verdict.Logs, proxy.Attr{Name: c.Shown(string(key), 64), Value: c.Shown(value, 1024)})
	return 0
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
