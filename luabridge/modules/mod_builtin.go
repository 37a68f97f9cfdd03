package modules

import (
	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// maxLogs bounds what custom_log_add may put into one decision's log line.
const maxLogs = 64

// builtinModule is nauthilus_builtin: Nauthilus 1.12's constants of every
// script type, and its two functions.
var builtinModule = Module{
	Name: "nauthilus_builtin", Global: true,
	Funcs: []Func{
		{Name: "status_message_set", Do: statusMessageSet},
		{Name: "custom_log_add", Do: customLogAdd},
	},
	Values: []Value{
		{Name: "FILTER_ACCEPT", Value: lua.LFalse},
		{Name: "FILTER_REJECT", Value: lua.LTrue},
		{Name: "FEATURE_TRIGGER_NO", Value: lua.LFalse},
		{Name: "FEATURE_TRIGGER_YES", Value: lua.LTrue},
		{Name: "FEATURES_ABORT_NO", Value: lua.LFalse},
		{Name: "FEATURES_ABORT_YES", Value: lua.LTrue},
		{Name: "FILTER_RESULT_OK", Value: lua.LNumber(0)},
		{Name: "FILTER_RESULT_FAIL", Value: lua.LNumber(1)},
		{Name: "FEATURE_RESULT_OK", Value: lua.LNumber(0)},
		{Name: "FEATURE_RESULT_FAIL", Value: lua.LNumber(1)},
		{Name: "BACKEND_RESULT_OK", Value: lua.LNumber(0)},
		{Name: "BACKEND_RESULT_FAIL", Value: lua.LNumber(1)},
		{Name: "ACTION_RESULT_OK", Value: lua.LNumber(0)},
		{Name: "ACTION_RESULT_FAIL", Value: lua.LNumber(1)},
	},
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
