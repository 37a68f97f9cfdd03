package modules

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

const emptyText = lua.LString("")

// A requestField is a field of `request`, and what makes it.
type requestField struct {
	Field
	make func(*Call) lua.LValue
}

func textField(name, doc string, value func(*Call) lua.LValue) requestField {
	return requestField{Field{name, "string", doc}, value}
}

func flagField(name, doc string, value func(*Call) lua.LValue) requestField {
	return requestField{Field{name, "boolean", doc}, value}
}

// foreignField is a text that only Nauthilus knows.
func foreignField(name, doc string) requestField {
	return textField(name, doc+" Always `\"\"`.", empty)
}

// requestFields make the fields of `request`, of Nauthilus 1.12's types: an
// unknown text is "", never nil; ports are texts.
var requestFields = []requestField{
	textField("username", "As the client typed it. Hostile.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.User) }),
	textField("account", "The final user name: what the password driver or the upstream made of `username`. Never empty.", account),
	textField("password", "For filters and features with `needs_password: true`, and password drivers; `\"\"` for others.", password),
	textField("protocol", "`imap`, `pop3`, `smtp`, `lmtp` or `sieve`, as backends have it: submission is `smtp`, managesieve `sieve`.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Protocol) }),
	textField("service", "Who asks: `dovecot` or `nginx`.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Adapter) }),
	textField("method", "The mechanism, in lower case: `plain`, `login` …", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Method) }),
	textField("session", "The decision's id, another for each attempt.", func(c *Call) lua.LValue { return lua.LString(c.Query.ID) }),
	textField("client_ip", "The client's address.", func(c *Call) lua.LValue { return addrText(c.Query.Request.Client) }),
	textField("client_port", "The client's port.", func(c *Call) lua.LValue { return portText(c.Query.Request.Client) }),
	textField("client_hostname", "The client's name, where nginx has looked it up.", clientHost),
	textField("client_host", "The same as `client_hostname`.", clientHost),
	textField("client_id", "What the client says that it is (IMAP's ID), where the proxy passes it on. Hostile.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.ClientID) }),
	textField("local_ip", "The address that the client connected to.", func(c *Call) lua.LValue { return addrText(c.Query.Request.Local) }),
	textField("local_port", "The port that the client connected to.", func(c *Call) lua.LValue { return portText(c.Query.Request.Local) }),
	flagField("authenticated", "The password was not refused.", func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) }),
	flagField("user_found", "The same as `authenticated`.", func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) }),
	flagField("no_auth", "A look-up without a password: LMTP, doveadm, nginx's SMTP without login.", func(c *Call) lua.LValue { return lua.LBool(c.Query.Request.NoAuth) }),
	flagField("debug", "`log.level` is `debug`.", func(c *Call) lua.LValue { return lua.LBool(c.Debug) }),
	flagField("repeating", "Always false.", func(*Call) lua.LValue { return lua.LFalse }),
	{Field{"http_status", "integer", "200, or 403 after a refused password."}, httpStatus},
	{Field{"latency", "integer", "How long the request has taken until now, in milliseconds."}, func(c *Call) lua.LValue { return lua.LNumber(time.Since(c.Began).Milliseconds()) }},
	{Field{"brute_force_counter", "integer", "Always 0."}, func(*Call) lua.LValue { return lua.LNumber(0) }},
	textField("ssl", "`on` if the client's connection is secured.", func(c *Call) lua.LValue { return onOff(c.Query.Request.TLS.Secured) }),
	textField("ssl_protocol", "`TLSv1.3` …", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Protocol) }),
	textField("ssl_cipher", "The cipher's name.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Cipher) }),
	textField("ssl_client_verify", "What became of the client's certificate: nginx's `SUCCESS`, `FAILED:…`, `NONE`.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientVerify) }),
	textField("ssl_client_dn", "The subject of the client's certificate.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientDN) }),
	textField("ssl_client_cn", "Its common name.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientCN) }),
	textField("ssl_issuer", "Its issuer.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientIssuer) }),
	textField("ssl_serial", "Its serial number.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientSerial) }),
	textField("ssl_fingerprint", "Its fingerprint.", func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientFingerprint) }),
	textField("redis_prefix", "`redis.prefix`, for keys.", func(c *Call) lua.LValue { return lua.LString(c.RedisPrefix) }),
	textField("log_format", "`json` or `default`.", logFormat),
	textField("log_level", "`log.level`.", func(c *Call) lua.LValue { return lua.LString(c.LogLevel) }),
	{Field{"logging", loggingType, "What the functions of `nauthilus_util` that log take; they take `request` too."}, logging},

	foreignField("account_field", "The password driver's."),
	foreignField("unique_user_id", "The password driver's."),
	foreignField("display_name", "The password driver's."),
	foreignField("user_agent", "Of HTTP."),
	foreignField("client_net", "Of Nauthilus' brute force buckets."),
	foreignField("brute_force_bucket", "Of Nauthilus' brute force buckets."),
	foreignField("feature", "Of Nauthilus' features."),
	foreignField("oidc_cid", "Of OpenID Connect."),
	foreignField("status_message", "What the client is told."),
	foreignField("ssl_session_id", "Of TLS."),
	foreignField("ssl_client_not_before", "Of the client's certificate."),
	foreignField("ssl_client_not_after", "Of the client's certificate."),
	foreignField("ssl_subject_dn", "Of the client's certificate."),
	foreignField("ssl_issuer_dn", "Of the client's certificate."),
	foreignField("ssl_client_subject_dn", "Of the client's certificate."),
	foreignField("ssl_client_issuer_dn", "Of the client's certificate."),
}

// makeField finds what makes a field.
var makeField = func() map[string]func(*Call) lua.LValue {
	m := map[string]func(*Call) lua.LValue{}
	for _, f := range requestFields {
		m[f.Name] = f.make
	}
	return m
}()

// The types of `request` and of its field logging, as editors have them.
const (
	requestType = "nauthilus_request"
	loggingType = "nauthilus_logging"
)

// RequestTypes say what a policy's parameter `request` is.
func RequestTypes() []Type {
	fields := make([]Field, len(requestFields))
	for i := range requestFields {
		fields[i] = requestFields[i].Field
	}
	return []Type{
		{Name: requestType, Fields: fields, Doc: "What a policy is asked about. A text that is not known is `\"\"`, never nil; ports are texts. " +
			"It is the script's own table: writing into it changes nothing elsewhere."},
		{Name: loggingType, Doc: "How to log.", Fields: []Field{
			{"log_format", "string", "`json` or `default`."},
			{"log_level", "string", "`debug`, `info`, `warn` or `error`."},
		}},
	}
}

func empty(*Call) lua.LValue { return emptyText }

// password is shown only to filters and features whose configuration says needs_password.
func password(c *Call) lua.LValue {
	if !c.ShowPassword {
		return emptyText
	}
	return lua.LString(c.Query.Request.Password.Reveal())
}

// account is never empty: scripts make keys of it, and all users would share
// one.
func account(c *Call) lua.LValue {
	return lua.LString(cmp.Or(c.Query.User, c.Query.Request.User))
}

func clientHost(c *Call) lua.LValue { return lua.LString(c.Query.Request.ClientHost) }

func httpStatus(c *Call) lua.LValue {
	if c.Query.Authenticated {
		return lua.LNumber(200)
	}
	return lua.LNumber(403)
}

func onOff(on bool) lua.LValue {
	if on {
		return lua.LString("on")
	}
	return emptyText
}

func addrText(a netip.AddrPort) lua.LValue {
	if !a.Addr().IsValid() {
		return emptyText
	}
	return lua.LString(a.Addr().String())
}

func portText(a netip.AddrPort) lua.LValue {
	if a.Port() == 0 {
		return emptyText
	}
	return lua.LString(strconv.Itoa(int(a.Port())))
}

func logFormat(c *Call) lua.LValue {
	if c.LogFormat == "json" {
		return lua.LString("json")
	}
	return lua.LString("default")
}

// logging is a table, the same whenever it is asked for.
func logging(c *Call) lua.LValue {
	if c.logging == nil {
		c.logging = &lua.LTable{Metatable: lua.LNil}
		c.logging.RawSetString("log_format", logFormat(c))
		c.logging.RawSetString("log_level", lua.LString(c.LogLevel))
	}
	return c.logging
}

// RequestFields are the names of the fields.
func RequestFields() []string { return slices.Sorted(maps.Keys(makeField)) }

// RequestField is a field as the script of c sees it; nil when there is none of
// that name.
func RequestField(c *Call, name string) lua.LValue {
	if field := makeField[name]; field != nil {
		return field(c)
	}
	return lua.LNil
}

// A Requests makes the tables that one script of a state gets as its request. A
// policy reads few of the fifty fields. Those whose names stand in it lie in a
// table behind the request's own, made before it runs, so that reading one costs
// no call; any other is made when it is asked for, each time. A script that writes
// gets them all first.
type Requests struct {
	meta   *lua.LTable // of the script's tables
	fields *lua.LTable // behind them; scripts never get hold of it
	named  []named
}

type named struct {
	name string
	make func(*Call) lua.LValue
}

// NewRequests prepares the requests of a script with these texts in it.
func NewRequests(L *lua.LState, texts []string) *Requests {
	r := &Requests{fields: L.CreateTable(0, 8)}
	for _, name := range texts {
		// The time must be the present one, and a table made for who wants it.
		if field := makeField[name]; field != nil && name != "latency" && name != "logging" {
			r.named = append(r.named, named{name, field})
		}
	}
	r.fields.Metatable = Sealed(L, L.NewFunction(func(L *lua.LState) int {
		v := lua.LNil
		if key, ok := L.Get(2).(lua.LString); ok {
			v = RequestField(CallOf(L), string(key))
		}
		L.Push(v)
		return 1
	}))
	r.meta = Sealed(L, r.fields)
	r.meta.RawSetString("__newindex", L.NewFunction(func(L *lua.LState) int {
		t := L.CheckTable(1)
		CallOf(L).Fill(L, t)
		budget.Of(L).Store(L, t, -1)
		L.RawSet(t, L.Get(2), L.Get(3))
		return 0
	}))
	return r
}

// New makes the request of c. What the one before left is overwritten.
func (r *Requests) New(L *lua.LState, c *Call) *lua.LTable {
	for i := range r.named {
		r.fields.RawSetString(r.named[i].name, r.named[i].make(c))
	}
	t := L.CreateTable(0, 0)
	t.Metatable = r.meta
	return t
}

// Clear forgets the password of the last request.
func (r *Requests) Clear() {
	if r.fields.RawGetString("password") != lua.LNil {
		r.fields.RawSetString("password", emptyText)
	}
}

// filledBytes is what the fifty fields take.
const filledBytes = 16 << 10

// Fill makes all fields of t, if it is the request's table, and takes the
// metatable off: from here on it is a plain table, for those who walk it,
// compare it, write into it or give it a metatable of their own.
func (c *Call) Fill(L *lua.LState, t *lua.LTable) {
	if t != c.Request || c.filled {
		return
	}
	budget.Of(L).Alloc(L, filledBytes)
	budget.Of(L).Work(L, len(requestFields))
	c.filled = true
	t.Metatable = lua.LNil
	for i := range requestFields {
		t.RawSetString(requestFields[i].Name, requestFields[i].make(c))
	}
}
