package modules

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// keyName is the name of the assignment key that stands so far.
func (c *Call) keyName() string {
	if c.Verdict.Key != "" {
		return c.Verdict.Key
	}
	return c.Query.Key.Name
}

// assignedTo is the number of users who are assigned to a host.
func (c *Call) assignedTo(host string) int {
	if c.Query.Others == nil {
		return 0
	}
	return c.Query.Others.Assigned(host)
}

// maxName is the longest user name or key that anybody has.
const maxName = proxy.MaxUserLen

// usherAssigned([user]) returns the host of the live assignment: of this request's
// key, or of another user.
func usherAssigned(L *lua.LState) int {
	c := CallOf(L)
	host := c.Query.Assigned
	switch v := L.Get(1).(type) {
	case *lua.LNilType:
		if c.Verdict.Key != "" {
			host = c.Verdict.KeyHost
		}
	case lua.LString:
		host = ""
		if c.Query.Others == nil || len(v) > maxName || v == "" {
			break
		}
		take(L, 20+len(v)/8, 2*len(v))
		var err error
		if host, err = c.Query.Others.AssignedUser(c.Ctx, string(v)); err != nil {
			L.Push(lua.LNil)
			L.Push(lua.LString(c.Shown(err.Error(), MaxText)))
			return 2
		}
		if c.tracing() {
			c.trace("assigned(%s) -> %s", c.Shown(string(v), 80), orNone(host))
		}
	default:
		argError(L, 1, "assigned", "string")
	}
	if host == "" {
		L.Push(lua.LNil)
	} else {
		L.Push(lua.LString(host))
	}
	return 1
}

func orNone(host string) string {
	if host == "" {
		return "none"
	}
	return host
}

// usherSticky(servers[, key]) returns the one of servers that proxy.Query.Sticky
// does. With a key it is the one that the key is assigned to, and from then on
// this request's assignment is the key's.
func usherSticky(L *lua.LState) int {
	c := CallOf(L)
	list := servers(L, 1, "sticky")
	assigned, name := c.Query.Assigned, c.Query.Key.Name
	switch v := L.Get(2).(type) {
	case *lua.LNilType:
		c.Verdict.Key, c.Verdict.KeyHost = "", ""
	case lua.LString:
		name = c.setKey(L, v)
		assigned = c.Verdict.KeyHost
		list = c.withDrained(L, list, assigned)
	default:
		argError(L, 2, "sticky", "string")
	}
	e, why := c.Query.StickyTo(list, assigned, name)
	if c.tracing() {
		switch {
		case e == nil:
			c.trace("sticky of %d servers -> none", len(list))
		case why == proxy.Sticky:
			c.trace("sticky of %d servers -> %s, where %q is assigned", len(list), e.Host, name)
		case assigned == "":
			c.trace("sticky of %d servers -> %s, by the hash: %q is not assigned", len(list), e.Host, name)
		default:
			c.trace("sticky of %d servers -> %s, by the hash: %q is assigned to %s, which is not among them", len(list), e.Host, name, assigned)
		}
	}
	return c.pick(L, e, why)
}

// setKey makes a text this request's assignment key and looks up who it is
// assigned to.
func (c *Call) setKey(L *lua.LState, text lua.LString) (name string) {
	take(L, 20+min(len(text), maxName)/8, 2*min(len(text), maxName))
	name, err := proxy.KeyOf(string(text))
	if err != nil {
		L.RaiseError("bad argument #2 to sticky: %s", err)
	}
	host := ""
	if c.Query.Others != nil {
		if host, err = c.Query.Others.AssignedKey(c.Ctx, name); err != nil {
			L.RaiseError("sticky: the assignments cannot be read: %s", c.Shown(err.Error(), MaxText))
		}
	}
	c.Verdict.Key, c.Verdict.KeyHost = strings.Clone(name), host
	return name
}

// withDrained adds the server of a host that takes no new users, and so is listed
// to its own users alone: a key's users are that too. What the last usher.servers
// was not asked for stays out.
func (c *Call) withDrained(L *lua.LState, list []*proxy.Entry, assigned string) []*proxy.Entry {
	h := c.Query.View.Host(assigned)
	if h == nil || h.Down || assigned == c.Query.Assigned {
		return list
	}
	for _, e := range list {
		if e.Machine() == h {
			return list
		}
	}
	listed := c.among(assigned)
	take(L, len(listed), 8*len(listed))
	if contains(c.among(""), h) {
		return list // whoever left it out, left it out on purpose
	}
	for _, e := range listed {
		if e.Machine() == h && c.filter.wants(e) {
			return append(list, e)
		}
	}
	return list
}

func contains(list []*proxy.Entry, h *proxy.HostState) bool {
	for _, e := range list {
		if e.Machine() == h {
			return true
		}
	}
	return false
}
