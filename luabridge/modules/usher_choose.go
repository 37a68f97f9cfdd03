package modules

import (
	"math"
	"math/rand/v2"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
	"usher/proxy"
	"usher/proxy/affinity"
)

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
	take(L, 1, 64)
	L.Push(c.newServer(L, e))
	return 1
}

// told traces what a function chose of how many servers.
func (c *Call) told(function string, of int, e *proxy.Entry) {
	if !c.tracing() {
		return
	}
	chosen := "none"
	if e != nil {
		chosen = e.Host
	}
	c.trace("%s of %d servers -> %s", function, of, chosen)
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
	list := servers(L, 2, "hash")
	e := proxy.Rendezvous(c.Query.Request.Protocol, string(key), list)
	if c.tracing() {
		c.told("hash("+c.Shown(string(key), 80)+")", len(list), e)
	}
	return c.pick(L, e, proxy.Hashed)
}

// usherFirst(servers) returns the first, or nil.
func usherFirst(L *lua.LState) int {
	list := servers(L, 1, "first")
	if len(list) == 0 {
		return CallOf(L).pick(L, nil, "")
	}
	return CallOf(L).pick(L, list[0], proxy.Selected)
}

// weighed reads a table of servers to choose from by weight: as proxy.Rendezvous
// does, for imap and pop3 those that have both, if there are any.
func weighed(L *lua.LState, function string) (c *Call, list []*proxy.Entry) {
	c = CallOf(L)
	all := servers(L, 1, function)
	return c, c.Query.View.Homes(c.Query.Request.Protocol, all)
}

// usherRandom(servers) returns one by chance, in proportion to the weights, or
// nil. It draws as math.random does.
func usherRandom(L *lua.LState) int {
	c, list := weighed(L, "random")
	total := 0
	for _, e := range list {
		total += max(e.Machine().Weight, 0)
	}
	var chosen *proxy.Entry
	if total > 0 {
		draw := rand.IntN
		if c.random != nil {
			draw = c.random.IntN
		}
		n := draw(total)
		for _, e := range list {
			if n -= max(e.Machine().Weight, 0); n < 0 {
				chosen = e
				break
			}
		}
	}
	c.told("random", len(list), chosen)
	return c.pick(L, chosen, proxy.Selected)
}

// usherRoundRobin(servers) returns one after the other, in proportion to the
// weights, or nil.
func usherRoundRobin(L *lua.LState) int {
	c, list := weighed(L, "round_robin")
	e := c.rotation().next(c.Script, c.Query.Request.Protocol, list, c.Query.DryRun)
	c.told("round_robin", len(list), e)
	return c.pick(L, e, proxy.Selected)
}

// usherLeastAssigned(servers) returns the one with the fewest users for its
// weight, or nil. Among equals the hash of the assignment key decides, so that
// users who come at once are spread.
func usherLeastAssigned(L *lua.LState) int {
	c, list := weighed(L, "least_assigned")
	take(L, 2*len(list), 0)
	key := affinity.HashKey(c.keyName())
	var best *proxy.Entry
	least, top := math.Inf(1), math.Inf(-1)
	for _, e := range list {
		h := e.Machine()
		if h.Weight <= 0 {
			continue
		}
		load := float64(c.assignedTo(h.ID)) / float64(h.Weight)
		score := affinity.Score(key, affinity.HashHost(h.ID), h.Weight)
		if load < least || load == least && score > top {
			best, least, top = e, load, score
		}
	}
	if c.tracing() {
		if best != nil {
			c.trace("least_assigned of %d servers -> %s, which has %d users", len(list), best.Host, c.assignedTo(best.Machine().ID))
		} else {
			c.told("least_assigned", len(list), nil)
		}
	}
	return c.pick(L, best, proxy.Selected)
}
