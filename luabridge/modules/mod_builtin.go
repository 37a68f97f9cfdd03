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
	Doc: "What policies return, the text that a refused client is shown, and fields of the decision's log line.",
	Funcs: []Func{
		{
			Name: "status_message_set", Do: statusMessageSet,
			Sig: "(text: string)",
			Doc: "Sets the text that the client is shown if it is refused; by itself it refuses nobody. The last call in a script counts, and of several scripts the first that set one. 4096 bytes at most.",
			Example: `nauthilus_builtin.status_message_set("Your mailbox is being moved")
return nauthilus_builtin.FILTER_REJECT, nauthilus_builtin.FILTER_RESULT_OK`,
		},
		{
			Name: "custom_log_add", Do: customLogAdd,
			Sig:     "(key: string, value: string|number|boolean)",
			Doc:     "Adds a field under `custom` to the decision's log line; any other value is `UNSUPPORTED`. Of a repeated key all are kept; 64 fields a request, keys of 64 and values of 1024 bytes at most.",
			Example: `nauthilus_builtin.custom_log_add("site", "north")`,
		},
	},
	Values: []Value{
		{Name: "FILTER_ACCEPT", Value: lua.LFalse, Doc: "A filter's first result: go on."},
		{Name: "FILTER_REJECT", Value: lua.LTrue, Doc: "A filter's first result: refuse the login. The client sees a wrong password, or the text of `status_message_set`."},
		{Name: "FEATURE_TRIGGER_NO", Value: lua.LFalse, Doc: "A feature's first result: go on."},
		{Name: "FEATURE_TRIGGER_YES", Value: lua.LTrue, Doc: "A feature's first result: refuse the login."},
		{Name: "FEATURES_ABORT_NO", Value: lua.LFalse, Doc: "A feature's second result: ask the other features."},
		{Name: "FEATURES_ABORT_YES", Value: lua.LTrue, Doc: "A feature's second result: leave the other features out."},
		{Name: "FILTER_RESULT_OK", Value: lua.LNumber(0), Doc: "A filter's second result: all went well."},
		{Name: "FILTER_RESULT_FAIL", Value: lua.LNumber(1), Doc: "A filter's second result: something went wrong. It is logged and counted, no more."},
		{Name: "FEATURE_RESULT_OK", Value: lua.LNumber(0), Doc: "A feature's third result: all went well."},
		{Name: "FEATURE_RESULT_FAIL", Value: lua.LNumber(1), Doc: "A feature's third result: something went wrong. It is logged and counted, no more."},
		{Name: "BACKEND_RESULT_OK", Value: lua.LNumber(0), Doc: "A password driver's first result: the second is an answer."},
		{Name: "BACKEND_RESULT_FAIL", Value: lua.LNumber(1), Doc: "A password driver's first result: a temporary failure."},
		{Name: "ACTION_RESULT_OK", Value: lua.LNumber(0), Doc: "Of Nauthilus' actions, which usher has not."},
		{Name: "ACTION_RESULT_FAIL", Value: lua.LNumber(1), Doc: "Of Nauthilus' actions, which usher has not."},
	},
}

// statusMessageSet sets the text that a refused client is shown.
func statusMessageSet(L *lua.LState) int {
	text, ok := textOf(L.Get(1))
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
	key, ok := textOf(L.Get(1))
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
