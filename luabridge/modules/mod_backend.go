package modules

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// backendModule is nauthilus_backend, by Nauthilus 1.12's reference page.
var backendModule = Module{
	Name: "nauthilus_backend", Global: true,
	Doc: "The backends, where this request goes, and the fields of the answer to Dovecot.",
	Funcs: []Func{
		{
			Name: "get_backend_servers", Do: getBackendServers,
			Sig: "() -> servers: nauthilus_backend_server[]",
			Doc: "Returns the servers that are up, of every protocol, in the configuration's order; `{}` if there is none. A drained one is listed only for its own users. " +
				"`usher.servers` returns only those that this request can go to.",
			Example: `local backend = require("nauthilus_backend")
for _, server in ipairs(backend.get_backend_servers()) do
  if server.protocol == request.protocol then
    print(server.host, server.port) --> 192.0.2.11 143
    backend.select_backend_server(server.host, server.port)
    break
  end
end`,
		},
		{
			Name: "select_backend_server", Do: selectBackendServer,
			Sig: "(host: string, port: integer|string)",
			Doc: "Sends this request to a host, which need not be a configured one unless `unlisted_backends` is `deny`. The last call wins. A port may be digits in a text. " +
				"A host that is no name or address, and a port outside of 1 to 65535, is a temporary failure of the login.",
			Example: `local backend = require("nauthilus_backend")
if request.protocol == "imap" then
  backend.select_backend_server("192.0.2.11", 143)
end`,
		},
		{
			Name: "check_backend_connection", Do: checkBackendConnection,
			Sig: "(protocol: string, host: string, port: integer|string, tls?: boolean, skip_verify?: boolean, haproxy_v2?: boolean) -> ok: boolean, err: string?",
			Forms: []string{
				"(server: nauthilus_backend_server) -> ok: boolean, err: string?",
				"(host: string, port: integer, haproxy_v2?: boolean, tls?: boolean) -> err: string?",
				"(server: {protocol?: string, host?: string, ip_address?: string, port: integer, tls?: boolean, tls_skip_verify?: boolean, haproxy_v2?: boolean}) -> err: string?",
			},
			Doc: "Tries a connection, with the TLS handshake and the PROXY header that are asked for, and closes it again. Returns `true`, or `false` and what went wrong. " +
				"It takes five seconds at most, and leaves a quarter of the request's time to the policy; usher's own checks know already which servers are up. " +
				"The last two forms are those of Nauthilus before 1.12: they return nil, or what went wrong.",
			Example: `local backend = require("nauthilus_backend")
local ok, err = backend.check_backend_connection("imap", "192.0.2.11", 143, false, false, false)
print(ok, err) --> true nil
local server = backend.get_backend_servers()[1]
print((backend.check_backend_connection(server))) --> true
print(backend.check_backend_connection("192.0.2.11", 143)) --> nil
print(backend.check_backend_connection({protocol = "imap", host = "192.0.2.11", port = 143})) --> nil`,
		},
		{
			Name: "apply_backend_result", Do: applyBackendResult,
			Sig: "(result: nauthilus_backend_result)",
			Doc: "Puts the attributes of a result into the answer to Dovecot, over those of the same name; nginx has no such fields. `true` is a field without value, `false` takes one out, a list is a temporary failure. " +
				"`user pass proxy host hostip port nologin proxy_refresh` are usher's own, and `master destuser` need `director.allow_identity`: setting them does nothing. " +
				"When nothing is selected, the first attribute that `director.host_attributes` names is taken for the host.",
			Example: `local backend = require("nauthilus_backend")
local result = nauthilus_backend_result.new()
result:attributes({["Proxy-Host"] = "192.0.2.12", quota_rule = "*:storage=1G"})
backend.apply_backend_result(result)`,
		},
		{
			Name: "remove_from_backend_result", Do: removeFromBackendResult,
			Sig: "(names: string[])",
			Doc: "Takes fields out of the answer to Dovecot. A name that is not there does nothing.",
			Example: `local backend = require("nauthilus_backend")
backend.remove_from_backend_result({"quota_rule"})`,
		},
	},
	Types: []Type{{
		Name: serverType, Doc: "A backend: a host with one protocol. A field that it has not is nil; none can be set.",
		Fields: []Field{
			{"protocol", "string", "`imap`, `pop3`, `smtp`, `lmtp`, `sieve` …"},
			{"host", "string", "Name or address, as configured."},
			{"ip", "string", "The same as `host`, for scripts of Nauthilus before 1.12."},
			{"port", "integer", "1 to 65535. Another service's where `usher.servers` lists hosts for one without entries of its own (doveadm): `usher.select` leaves it out then."},
			{"request_uri", "string", "For checks of http backends."},
			{"test_username", "string", "Whom usher's checks log in as."},
			{"test_password", "string", "Starred in logs."},
			{"haproxy_v2", "boolean", "It takes a PROXY header."},
			{"tls", "boolean", "TLS from the first byte."},
			{"tls_skip_verify", "boolean", "Its certificate is not checked."},
			{"deep_check", "boolean", "usher's checks log in."},
			{"weight", "integer", "Of its host, as configured or as an operator set it. 0: no new users."},
			{"tags", "string[]", "Of its host; a new list at each read."},
			{"assigned", "integer", "How many users are assigned to its host; one whose assignment has ended may count for another minute."},
		},
	}},
}

const serverType = "nauthilus_backend_server"

// serverMeta returns a metatable whose __index is a prepared table: reading a
// field costs neither a call nor an allocation. The tables are never written
// again, so all states share them.
func (d *Deps) serverMeta(L *lua.LState, s *proxy.Server) *lua.LTable {
	if mt, ok := d.metas.Load(s); ok {
		return mt.(*lua.LTable)
	}
	fields := L.CreateTable(0, 12)
	for name, v := range map[string]lua.LValue{
		"protocol":        lua.LString(s.Protocol),
		"host":            lua.LString(s.Host),
		"ip":              lua.LString(s.Host), // scripts for Nauthilus before 1.12
		"port":            lua.LNumber(s.Port),
		"request_uri":     lua.LString(s.RequestURI),
		"test_username":   lua.LString(s.TestUsername),
		"test_password":   lua.LString(s.TestPassword.Reveal()),
		"haproxy_v2":      lua.LBool(s.HAProxyV2),
		"tls":             lua.LBool(s.TLS),
		"tls_skip_verify": lua.LBool(s.TLSSkipVerify),
		"deep_check":      lua.LBool(s.DeepCheck),
	} {
		fields.RawSetString(name, v)
	}
	fields.Metatable = serverFields(L, s)
	mt := Sealed(L, fields)
	mt.RawSetString("__name", lua.LString(serverType))
	if !s.TestPassword.IsEmpty() {
		d.secrets.Store(s.TestPassword, nil)
	}
	actual, _ := d.metas.LoadOrStore(s, mt)
	return actual.(*lua.LTable)
}

// newServer hands out an entry. Each is the script's own userdata.
func (c *Call) newServer(L *lua.LState, e *proxy.Entry) *lua.LUserData {
	return &lua.LUserData{Value: e, Metatable: c.serverMeta(L, e.Server)}
}

func (c *Call) serverList(L *lua.LState, entries []*proxy.Entry) *lua.LTable {
	const serverBytes = 48 + 16 // a userdata, and its place in the list
	take(L, len(entries)/2, 128+serverBytes*len(entries))
	t := L.CreateTable(len(entries), 0)
	list := make([]lua.LUserData, len(entries))
	for i, e := range entries {
		list[i] = lua.LUserData{Value: e, Metatable: c.serverMeta(L, e.Server)}
		t.Append(&list[i])
	}
	return t
}

// getBackendServers: the servers that are up, of every protocol, in the
// configuration's order.
func getBackendServers(L *lua.LState) int {
	c := CallOf(L)
	listed := c.Query.View.Listed(c.Query.Assigned, c.Query.Request.AddressOnly)
	if c.tracing() {
		c.trace("get_backend_servers() -> %d servers", len(listed))
	}
	L.Push(c.serverList(L, listed))
	return 1
}

// selectBackendServer takes exactly a host and a port. The last call wins.
// What they are worth, the pipeline checks.
func selectBackendServer(L *lua.LState) int {
	wrong := func(n int, got string) {
		L.RaiseError("bad argument #%d to select_backend_server (expected server (string) and port (number)), got %s", n, got)
	}
	if n := L.GetTop(); n != 2 {
		wrong(2, strconv.Itoa(n)+" arguments")
	}
	host, ok := L.Get(1).(lua.LString)
	if !ok {
		wrong(1, typeName(L, 1)+argValue(L, 1))
	}
	port, ok := portOf(L.Get(2))
	if !ok {
		wrong(2, typeName(L, 2)+argValue(L, 2))
	}
	c := CallOf(L)
	name := string(host)
	if !proxy.ValidHost(name) { // the pipeline refuses it, and says what it is
		name = c.Shown(name, maxHost)
	}
	c.choose(strings.Clone(name), port, proxy.Selected)
	return 0
}

// choose records a selection. One of the server that usher.sticky or
// usher.hash returned keeps their reason.
func (c *Call) choose(host string, port int, why proxy.Reason) {
	if p := c.picked; p != nil && p.Host == host && (p.Port == port || port == 0) {
		why = c.pickedWhy
	}
	v := &c.Verdict
	v.Selected, v.Host, v.Port, v.Reason = true, host, port, why
	v.By = c.By
	if c.tracing() {
		c.trace("select %s (%s)", proxy.HostPort(host, port), why)
	}
}

// portOf reads a number, or digits as text. What is no port comes back as -1,
// which the pipeline refuses.
func portOf(v lua.LValue) (int, bool) {
	var f float64
	switch v := v.(type) {
	case lua.LNumber:
		f = float64(v)
	case lua.LString:
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil {
			return 0, false
		}
		f = float64(n)
	default:
		return 0, false
	}
	if f != math.Trunc(f) || f < 1 || f > math.MaxUint16 {
		return -1, true
	}
	return int(f), true
}

// checkTimeout bounds one try of a connection, within the request's deadline.
const checkTimeout = 5 * time.Second

// checkBackendConnection(protocol, host, port, tls, skip_verify, haproxy_v2)
// returns true, or false and what went wrong. So it does for a server of
// get_backend_servers. Scripts for older releases call it with
// (host, port, haproxy_v2, tls) or with a table; they get nil, or what went
// wrong.
func checkBackendConnection(L *lua.LState) int {
	c := CallOf(L)
	var s *proxy.Server
	old := false
	switch v := L.Get(1).(type) {
	case *lua.LUserData:
		e, ok := v.Value.(*proxy.Entry)
		if !ok {
			argError(L, 1, checkName, "protocol (string)")
		}
		s = e.Server
	case *lua.LTable:
		s, old = serverOf(L, v), true
	case lua.LString:
		if _, old = L.Get(2).(lua.LNumber); old {
			s = &proxy.Server{Host: string(v), HAProxyV2: checkFlag(L, 3), TLS: checkFlag(L, 4)}
			s.Port = checkPort(L, 2)
			break
		}
		s = &proxy.Server{Protocol: string(v), TLS: checkFlag(L, 4), TLSSkipVerify: checkFlag(L, 5), HAProxyV2: checkFlag(L, 6)}
		host, ok := L.Get(2).(lua.LString)
		if !ok {
			argError(L, 2, checkName, "host (string)")
		}
		s.Host, s.Port = string(host), checkPort(L, 3)
	default:
		argError(L, 1, checkName, "protocol (string)")
	}
	fault := c.checkConnection(s)
	switch {
	case old && fault == "":
		L.Push(lua.LNil)
		return 1
	case old:
		L.Push(lua.LString(fault))
		return 1
	case fault == "":
		L.Push(lua.LTrue)
		L.Push(lua.LNil)
	default:
		L.Push(lua.LFalse)
		L.Push(lua.LString(fault))
	}
	return 2
}

const checkName = "check_backend_connection"

func checkPort(L *lua.LState, n int) int {
	port, ok := portOf(L.Get(n))
	if !ok {
		argError(L, n, checkName, "port (number)")
	}
	return port
}

// checkFlag reads a boolean; one that is not there is false.
func checkFlag(L *lua.LState, n int) bool {
	switch v := L.Get(n).(type) {
	case lua.LBool:
		return bool(v)
	case *lua.LNilType:
	default:
		argError(L, n, checkName, "boolean")
	}
	return false
}

// serverOf reads a table of Nauthilus 1.4 to 1.11.
func serverOf(L *lua.LState, t *lua.LTable) *proxy.Server {
	text := func(name string) string {
		s, _ := t.RawGetString(name).(lua.LString)
		return string(s)
	}
	flag := func(name string) bool { return lua.LVAsBool(t.RawGetString(name)) }
	port, ok := portOf(t.RawGetString("port"))
	if !ok {
		L.RaiseError("bad argument #1 to %s (its port is a %s; number expected)", checkName, t.RawGetString("port").Type())
	}
	return &proxy.Server{
		Protocol: text("protocol"), Host: cmp.Or(text("host"), text("ip_address")), Port: port,
		TLS: flag("tls"), TLSSkipVerify: flag("tls_skip_verify"), HAProxyV2: flag("haproxy_v2"),
	}
}

func (c *Call) checkConnection(s *proxy.Server) string {
	switch {
	case !proxy.ValidHost(s.Host):
		return "no host name and no address"
	case s.Port < 1:
		return "port is outside 1-65535"
	case c.DenyUnlisted && !c.listed(s):
		return s.Address() + " is not configured, and unlisted_backends is deny"
	}
	ctx, done, err := c.dial("nauthilus_backend", checkTimeout, func() string { return checkName + " " + s.Protocol + " " + s.Address() })
	if err == nil {
		err = c.Checker.CheckConnection(ctx, s)
		done(err)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (c *Call) listed(s *proxy.Server) bool {
	h := c.Query.View.Host(proxy.CanonicalHost(s.Host))
	return h != nil && h.EntryAt(s.Protocol, s.Port) != nil
}

// applyBackendResult merges the attributes of a backend_result into the
// result; what has the same name is overwritten.
func applyBackendResult(L *lua.LState) int {
	ud, ok := L.Get(1).(*lua.LUserData)
	var res *backendResult
	if ok {
		res, ok = ud.Value.(*backendResult)
	}
	if !ok {
		argError(L, 1, "apply_backend_result", resultType)
	}
	c := CallOf(L)
	for _, a := range res.attributes {
		c.change(L, changeOf(a))
	}
	if c.tracing() {
		names := make([]string, len(res.attributes))
		for i, a := range res.attributes {
			names[i] = a.name
			if s, ok := a.value.(lua.LString); ok {
				names[i] += "=" + c.Shown(string(s), 80)
			}
		}
		c.trace("apply_backend_result: %s", cmp.Or(strings.Join(names, " "), "no attributes"))
	}
	return 0
}

// maxChanges bounds how many attributes one request may set.
const maxChanges = 256

func (c *Call) change(L *lua.LState, ch proxy.Change) {
	cs := &c.Verdict.Changes
	take(L, 1+len(*cs)/4, 64)
	if i := slices.IndexFunc(*cs, func(o proxy.Change) bool { return o.Name == ch.Name }); i >= 0 {
		(*cs)[i] = ch
		return
	}
	if len(*cs) < maxChanges {
		*cs = append(*cs, ch)
	}
}

// changeOf: true is a bare field, false is none, a table is a list.
func changeOf(a attribute) proxy.Change {
	ch := proxy.Change{Attr: proxy.Attr{Name: a.name}}
	switch v := a.value.(type) {
	case lua.LBool:
		ch.Bare, ch.Remove = bool(v), !bool(v)
	case lua.LNumber:
		ch.Value = number(v)
	case lua.LString:
		ch.Value = string(v)
	default:
		ch.List = true
	}
	return ch
}

// removeFromBackendResult takes names out of the result.
func removeFromBackendResult(L *lua.LState) int {
	t, ok := L.Get(1).(*lua.LTable)
	if !ok {
		argError(L, 1, "remove_from_backend_result", "table")
	}
	c := CallOf(L)
	each(L, t, func(_, v lua.LValue) {
		c.change(L, proxy.Change{Attr: proxy.Attr{Name: v.String()}, Remove: true})
	})
	return 0
}
