package modules

import (
	"slices"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
	"usher/proxy"
)

// usherModule is usher, our own module: what policies always need.
var usherModule = Module{
	Name: "usher", Global: true,
	Doc:   "What policies always need: the servers that a request can go to, ways to choose one, look-ups in files, and what becomes of the login. It is usher's own; Nauthilus has it not.",
	Types: []Type{mapTypes},
	Funcs: []Func{
		{
			Name: "servers", Do: usherServers,
			Sig: "(filter?: {tag?: string, tags?: string[], host?: string}) -> servers: nauthilus_backend_server[]",
			Doc: "Lists the servers to choose from: of the request's protocol, up, one a host, in the configuration's order; `{}` when there is none. A drained host is listed to its own users only. " +
				"With `tag` only hosts with that tag, with `tags` those with all of them, with `host` that host. " +
				"A service that no server is configured for (doveadm) gets one server of each host. " +
				"Behind a Dovecot whose own auth server answers, all are of its `director_tag`, by their first tag; without a `director_tag` hosts with tags are listed by `tag`, `tags` and `host` only. " +
				"Besides `host`, `port` and the like each has `weight`, `tags` (a new list at each read) and `assigned`, the number of users assigned to its host; one whose assignment has ended may count for another minute.",
			Example: `local usher = require("usher")
local servers = usher.servers()
print(#servers, servers[1].host, servers[1].port) --> 2	192.0.2.11	143
print(servers[1].weight, #servers[1].tags, servers[1].assigned) --> 100	0	0
print(#usher.servers({tag = "ssd"})) --> 0`,
		},
		{
			Name: "first", Do: usherFirst,
			Sig: "(servers: nauthilus_backend_server[]) -> server: nauthilus_backend_server?",
			Doc: "Returns the first server of a list, or nil when it is empty.",
			Example: `local usher = require("usher")
print(usher.first(usher.servers()).host) --> 192.0.2.11
print(usher.first({})) --> nil`,
		},
		{
			Name: "hash", Do: usherHash,
			Sig: "(key: string, servers: nauthilus_backend_server[]) -> server: nauthilus_backend_server?",
			Doc: "Returns the server that the key belongs to by weighted rendezvous hashing, or nil when there is none: the same key gets the same server as long as that is in the list, and a server that goes moves only its own keys. " +
				"The weight says how many keys a server gets; 0 gets none. For imap and pop3 only hosts count that have both, if the configuration has both.",
			Example: `local usher = require("usher")
local servers = usher.servers()
print(usher.hash("example.org", servers).host == usher.hash("example.org", servers).host) --> true
print(usher.hash("example.org", {})) --> nil`,
		},
		{
			Name: "random", Do: usherRandom,
			Sig: "(servers: nauthilus_backend_server[]) -> server: nauthilus_backend_server?",
			Doc: "Returns a server by chance, in proportion to the weights, or nil when there is none with a weight over 0. It draws as `math.random` does, so `math.randomseed` makes it repeat itself. " + homes,
			Example: `local usher = require("usher")
local server = usher.random(usher.servers())
print(server.protocol) --> imap`,
		},
		{
			Name: "round_robin", Do: usherRoundRobin,
			Sig: "(servers: nauthilus_backend_server[]) -> server: nauthilus_backend_server?",
			Doc: "Returns one server after the other, each in proportion to its weight, or nil when there is none with a weight over 0. Whose turn it is is kept for each script and protocol, over requests and reloads; a dry run takes no turn. " + homes,
			Example: `local usher = require("usher")
local servers = usher.servers()
local a, b = usher.round_robin(servers), usher.round_robin(servers)
print(a.host ~= b.host) --> true`,
		},
		{
			Name: "least_assigned", Do: usherLeastAssigned,
			Sig: "(servers: nauthilus_backend_server[]) -> server: nauthilus_backend_server?",
			Doc: "Returns the server whose host has the fewest assigned users for its weight, or nil when there is none with a weight over 0. Among equals the hash of the assignment key decides. " + homes,
			Example: `local usher = require("usher")
local server = usher.least_assigned(usher.servers())
print(server.assigned) --> 0`,
		},
		{
			Name: "sticky", Do: usherSticky,
			Sig: "(servers: nauthilus_backend_server[], key?: string) -> server: nauthilus_backend_server?",
			Doc: "Returns the server that the user is assigned to if it is in the list, else what `usher.hash` gives for the user; nil when there is none. Is the host up, but not this protocol on it, selecting what is returned tells the user to try later: nobody goes to a second machine. " +
				"With a `key` (a domain, a family; at most 255 bytes, case does not matter) all logins with that key share one assignment, and the user's own is neither looked at nor changed; the last call counts. A drained host keeps the key's users, unless the filter of the last `usher.servers` leaves it out. A session that goes on prolongs the user's own assignment, not the key's: that lives as long as logins come. " +
				"Keys and users' names are of one kind: a user who is called `example.org` has the assignment of the key `example.org`. A policy that sets keys had better set one for each login, with a word before each kind: `\"domain:\" .. domain`, `\"user:\" .. request.account`.",
			Example: `local usher = require("usher")
local server = usher.sticky(usher.servers(), "example.org")
print(server.host == usher.hash("example.org", usher.servers()).host) --> true`,
		},
		{
			Name: "assigned", Do: usherAssigned,
			Sig: "(user?: string) -> host: string?, err: string?",
			Doc: "Returns the host that the request is assigned to, by the key of `usher.sticky` if that set one; with `user` the host of that user. Returns nil when there is none, or `affinity.mode` is off, and nil and a text when the assignments cannot be read.",
			Example: `local usher = require("usher")
print(usher.assigned()) --> nil
print(usher.assigned("bob@example.org")) --> nil`,
		},
		{
			Name: "map", Do: usherMap,
			Sig: "(file: string) -> map: usher_map",
			Doc: "Returns the map of a file of keys and values (docs/maps.md says how they are written), relative to the script's folder. It is read once for the process, at best at the start: call it outside of functions. A file that changes is read anew within about two seconds; while it is broken or gone, the old content stays, and the log says why. " +
				"Raises an error when the file was never good, and when a request may not wait until it is read: the next one finds it. A name must not contain `..`; a process has 1000 maps at most.",
			Example: `local usher = require("usher")
local moved = usher.map("moved.map")
print(moved("alice@example.org")) --> 192.0.2.12`,
		},
		{
			Name: "cidr", Do: usherCIDR,
			Sig: "(set: string|string[], ip: string) -> inside: boolean",
			Doc: "Reports whether an address is in a network, or in one of a list of networks; an address stands for itself. An IPv4 address in IPv6 form counts as IPv4. A text that is no address, and `\"\"`, is in none; a network that is none raises an error.",
			Example: `local usher = require("usher")
print(usher.cidr({"198.51.100.0/24", "192.0.2.0/28"}, request.client_ip)) --> true
print(usher.cidr("2001:db8::/32", request.client_ip)) --> false`,
		},
		{
			Name: "select", Do: usherSelect,
			Sig: "(server: nauthilus_backend_server)",
			Doc: "Sends the request to a server, as `nauthilus_backend.select_backend_server` does with its host and port; the last selection counts.",
			Example: `local usher = require("usher")
local server = usher.sticky(usher.servers())
if server then usher.select(server) end`,
		},
		{
			Name: "deny", Do: usherDeny,
			Sig: "(text?: string)",
			Doc: "Refuses the login. The client sees a wrong password, or the text, of which 4096 bytes are shown at most.",
			Example: `local usher = require("usher")
if request.ssl == "" then usher.deny("Please turn TLS on") end`,
		},
		{
			Name: "hold", Do: usherHold,
			Sig: "(seconds: number)",
			Doc: "Lets the login wait, more than 0 and at most 3600 seconds, and asks the policy again then, until `limits.hold` is over and the login is told to try later. A refusal and `usher.tempfail` come first. Look-ups of doveadm do not wait.",
			Example: `local usher = require("usher")
if #usher.servers() < 3 then usher.hold(2) end`,
		},
		{
			Name: "tempfail", Do: usherTempfail,
			Sig: "(text?: string)",
			Doc: "Tells the login to try later, whatever is selected; only a refusal comes first. The text, 4096 bytes at most, stands as `error` in the decision's log line; the client does not see it. It is no fault of the policy, and not counted as one.",
			Example: `local usher = require("usher")
if #usher.servers() < 3 then usher.tempfail("half of the site is down") end`,
		},
		{
			Name: "log", Do: usherLog,
			Sig: "(text: any)",
			Doc: "Writes a log line of level info, with the script's name and the decision's id; 4096 bytes of the text at most, and a hundred lines of one run.",
			Example: `local usher = require("usher")
usher.log("asked about " .. request.account)
print("logged") --> logged`,
		},
	},
}

const homes = "For imap and pop3 only hosts count that have both, if the configuration has both."

// A serverFilter says which servers usher.servers lists.
type serverFilter struct {
	tags    []string
	byHost  bool
	host    string // canonical
	nothing bool
}

func (f *serverFilter) wants(e *proxy.Entry) bool {
	h := e.Machine()
	if f.nothing || f.byHost && h.ID != f.host {
		return false
	}
	for _, tag := range f.tags {
		if !slices.Contains(h.Tags, tag) {
			return false
		}
	}
	return true
}

// usherServers([filter]) lists servers to choose from: of the request's
// protocol, up, one a host, in the configuration's order. A service without
// entries of its own (doveadm) gets one server of each host, with port 0. Of
// hosts with tags see proxy.Query.Candidates.
func usherServers(L *lua.LState) int {
	c := CallOf(L)
	if c.candidates == nil {
		c.candidates = c.Query.Candidates(c.Query.Assigned)
	}
	list, all := c.candidates, len(c.candidates)
	c.filter = serverFilter{}
	switch f := L.Get(1).(type) {
	case *lua.LNilType:
	case *lua.LTable:
		c.filter = readFilter(L, f)
		list = c.among(c.Query.Assigned)
		all = len(list)
		take(L, all*(1+len(c.filter.tags)), 8*all)
		list = keep(list, c.filter.wants)
	default:
		argError(L, 1, "servers", "table")
	}
	if c.tracing() {
		c.trace("servers -> %d of %d", len(list), all)
	}
	L.Push(c.serverList(L, list))
	return 1
}

// among are the servers that the last usher.servers chose from. An auth server
// that gives no director_tag leaves only hosts without tags, but not to a policy
// that names a tag or a host: it means those.
func (c *Call) among(assigned string) []*proxy.Entry {
	q := c.Query
	if q.Key.Tag == "" && (len(c.filter.tags) > 0 || c.filter.byHost) {
		return q.View.Candidates(q.Request.Protocol, assigned, q.Request.AddressOnly)
	}
	return q.Candidates(assigned)
}

// maxTags bounds how many tags a filter names.
const maxTags = 64

func readFilter(L *lua.LState, t *lua.LTable) (f serverFilter) {
	each(L, t, func(k, v lua.LValue) {
		text, isText := v.(lua.LString)
		list, isList := v.(*lua.LTable)
		switch {
		case k == lua.LString("tag") && isText:
			f.tags = append(f.tags, string(text))
		case k == lua.LString("tags") && isList:
			f.tags = append(f.tags, readTags(L, list)...)
		case k == lua.LString("host") && isText:
			f.byHost = true
			if f.nothing = f.nothing || len(text) > maxHost; !f.nothing {
				f.host = proxy.CanonicalHost(string(text))
			}
		default:
			L.RaiseError("bad argument #1 to servers: unknown filter %q; expected tag or host, each a string, or tags, a list of strings", CallOf(L).Shown(k.String(), 64))
		}
	})
	return f
}

func readTags(L *lua.LState, t *lua.LTable) (tags []string) {
	length := budget.Of(L).Len(L, t)
	if length > maxTags {
		L.RaiseError("bad argument #1 to servers: %d tags, at most %d", length, maxTags)
	}
	take(L, 1+length, 16*length)
	for i := 1; i <= length; i++ {
		tag, ok := t.RawGetInt(i).(lua.LString)
		if !ok {
			L.RaiseError("bad argument #1 to servers (tags: list of strings expected, its element %d is a %s)", i, t.RawGetInt(i).Type())
		}
		tags = append(tags, string(tag))
	}
	return tags
}

func keep(list []*proxy.Entry, want func(*proxy.Entry) bool) []*proxy.Entry {
	return slices.DeleteFunc(slices.Clone(list), func(e *proxy.Entry) bool { return !want(e) })
}

// maxHost is the longest host name, in bytes (RFC 1035, with a trailing dot).
const maxHost = 254
