package modules

import (
	"math"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/proxy"
)

// usherModule is usher, our own module: what policies always need.
var usherModule = Module{
	Name: "usher", Global: true,
	Funcs: []Func{
		{Name: "servers", Do: usherServers},
		{Name: "assigned", Do: usherAssigned},
		{Name: "hash", Do: usherHash},
		{Name: "sticky", Do: usherSticky},
		{Name: "select", Do: usherSelect},
		{Name: "deny", Do: usherDeny},
		{Name: "hold", Do: usherHold},
		{Name: "log", Do: usherLog},
	},
}

// usherServers([filter]) lists servers to choose from: of the request's
// protocol, up, one a host, in the configuration's order. A service without
// entries of its own (doveadm) gets one server of each host, with port 0. The
// filter is a table: tag = "ssd" keeps hosts with that tag, host = "name" that
// host. Of hosts with tags see proxy.Query.Candidates.
func usherServers(L *lua.LState) int {
	c := CallOf(L)
	if c.candidates == nil {
		c.candidates = c.Query.Candidates(c.Query.Assigned)
	}
	list := c.candidates
	switch f := L.Get(1).(type) {
	case *lua.LNilType:
	case *lua.LTable:
		list = filterServers(L, f, list)
	default:
		argError(L, 1, "servers", "table")
	}
	L.Push(c.serverList(L, list))
	return 1
}

func filterServers(L *lua.LState, f *lua.LTable, list []*proxy.Entry) []*proxy.Entry {
	each(L, f, func(k, v lua.LValue) {
		take(L, 1+len(list), 8*len(list))
		text, ok := v.(lua.LString)
		switch {
		case k == lua.LString("tag") && ok:
			list = keep(list, func(e *proxy.Entry) bool { return slices.Contains(e.Machine().Tags, string(text)) })
		case k == lua.LString("host") && ok && len(text) > maxHost:
			list = nil
		case k == lua.LString("host") && ok:
			id := proxy.CanonicalHost(string(text))
			list = keep(list, func(e *proxy.Entry) bool { return e.Machine().ID == id })
		default:
			L.RaiseError("bad argument #1 to servers: unknown filter %q; expected tag or host, each a string", CallOf(L).Shown(k.String(), 64))
		}
	})
	return list
}

func keep(list []*proxy.Entry, want func(*proxy.Entry) bool) []*proxy.Entry {
	return slices.DeleteFunc(slices.Clone(list), func(e *proxy.Entry) bool { return !want(e) })
}

// usherAssigned() returns the host of the user's live assignment, or nil.
func usherAssigned(L *lua.LState) int {
	if host := CallOf(L).Query.Assigned; host != "" {
		L.Push(lua.LString(host))
	} else {
		L.Push(lua.LNil)
	}
	return 1
}

// maxHost is the longest host name, in bytes (RFC 1035, with a trailing dot).
const maxHost = 254

// servers reads a table of servers.
func servers(L *lua.LState, n int, function string) []*proxy.Entry {
	t, ok := L.Get(n).(*lua.LTable)
	if !ok {
		argError(L, n, function, "table of servers")
	}
	length := budget.Of(L).Len(L, t)
	take(L, 2*length, 8*length) // to read it, and to hash each
	list := make([]*proxy.Entry, 0, length)
	for i := 1; i <= length; i++ {
		ud, ok := t.RawGetInt(i).(*lua.LUserData)
		var e *proxy.Entry
		if ok {
			e, ok = ud.Value.(*proxy.Entry)
		}
		if !ok {
			L.RaiseError("bad argument #%d to %s (table of servers expected, its element %d is a %s)", n, function, i, t.RawGetInt(i).Type())
		}
		list = append(list, e)
	}
	return list
}

// pick pushes a server, or nil, and remembers why it was picked.
func (c *Call) pick(L *lua.LState, e *proxy.Entry, why proxy.Reason) int {
	if e == nil {
		L.Push(lua.LNil)
		return 1
	}
	c.picked, c.pickedWhy = e, why
	L.Push(c.newServer(L, e))
	return 1
}

// usherHash(key, servers) returns the server that weighted rendezvous hashing
// gives the key to, or nil when there is none.
func usherHash(L *lua.LState) int {
	key, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "hash", "string")
	}
	take(L, len(key)/64, 0)
	c := CallOf(L)
	e := proxy.Rendezvous(c.Query.View, c.Query.Request.Protocol, string(key), servers(L, 2, "hash"))
	return c.pick(L, e, proxy.Hashed)
}

// usherSticky(servers) returns the one of servers that proxy.Query.Sticky does.
func usherSticky(L *lua.LState) int {
	c := CallOf(L)
	e, why := c.Query.Sticky(servers(L, 1, "sticky"))
	return c.pick(L, e, why)
}

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
