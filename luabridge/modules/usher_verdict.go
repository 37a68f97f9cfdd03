package modules

import (
	"math"
	"time"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"usher/proxy"
)

// usherSelect(server) selects it. One that stands for its host alone leaves the
// port to the upstream.
func usherSelect(L *lua.LState) int {
	ud, ok := L.Get(1).(*lua.LUserData)
	var e *proxy.Entry
	if ok {
		e, ok = ud.Value.(*proxy.Entry)
	}
	if !ok {
		argError(L, 1, "select", "server")
	}
	c := CallOf(L)
	port := e.Port
	if e.Protocol != c.Query.Request.Protocol {
		port = 0
	}
	c.choose(e.Host, port, proxy.Selected)
	return 0
}

// usherDeny([text]) refuses the login; the client is shown the text.
func usherDeny(L *lua.LState) int {
	c := CallOf(L)
	switch v := L.Get(1).(type) {
	case *lua.LNilType:
	case lua.LString:
		take(L, min(len(v), 2*MaxText)/16, min(len(v), 2*MaxText))
		c.Verdict.Text, c.textSet = c.Shown(string(v), MaxText), true
	default:
		argError(L, 1, "deny", "string")
	}
	c.Verdict.Refused = true
	return 0
}

// usherTempfail([text]) tells the login to try later; the text is for the log.
func usherTempfail(L *lua.LState) int {
	c := CallOf(L)
	c.Verdict.TempFailText = ""
	switch v := L.Get(1).(type) {
	case *lua.LNilType:
	case lua.LString:
		take(L, min(len(v), 2*MaxText)/16, min(len(v), 2*MaxText))
		c.Verdict.TempFailText = c.Shown(string(v), MaxText)
	default:
		argError(L, 1, "tempfail", "string")
	}
	c.Verdict.TempFail = true
	return 0
}

// usherHold(seconds) lets the login wait, and asks the policy again then.
func usherHold(L *lua.LState) int {
	n, ok := L.Get(1).(lua.LNumber)
	if !ok {
		argError(L, 1, "hold", "number of seconds")
	}
	if math.IsNaN(float64(n)) || n <= 0 || n > 3600 {
		L.RaiseError("bad argument #1 to hold: %s seconds; expected more than 0, at most 3600", number(n))
	}
	CallOf(L).Verdict.Hold = time.Duration(float64(n) * float64(time.Second))
	return 0
}

// usherLog(text) logs a line.
func usherLog(L *lua.LState) int {
	c := CallOf(L)
	c.LogLine(zap.InfoLevel, zap.String("text", c.Text(L, L.CheckAny(1))))
	return 0
}
