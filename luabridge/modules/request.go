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

// requestFields make the fields of `request`, of Nauthilus 1.12's types: an
// unknown text is "", never nil; ports are texts.
var requestFields = map[string]func(*Call) lua.LValue{
	"username":          func(c *Call) lua.LValue { return lua.LString(c.Query.Request.User) },
	"password":          password,
	"account":           account,
	"protocol":          func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Protocol) },
	"service":           func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Adapter) },
	"method":            func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Method) },
	"session":           func(c *Call) lua.LValue { return lua.LString(c.Query.ID) },
	"client_ip":         func(c *Call) lua.LValue { return addrText(c.Query.Request.Client) },
	"client_port":       func(c *Call) lua.LValue { return portText(c.Query.Request.Client) },
	"client_hostname":   clientHost,
	"client_host":       clientHost,
	"client_id":         func(c *Call) lua.LValue { return lua.LString(c.Query.Request.ClientID) },
	"local_ip":          func(c *Call) lua.LValue { return addrText(c.Query.Request.Local) },
	"local_port":        func(c *Call) lua.LValue { return portText(c.Query.Request.Local) },
	"authenticated":     func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) },
	"user_found":        func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) },
	"no_auth":           func(c *Call) lua.LValue { return lua.LBool(c.Query.Request.NoAuth) },
	"debug":             func(c *Call) lua.LValue { return lua.LBool(c.Debug) },
	"repeating":         func(*Call) lua.LValue { return lua.LFalse },
	"http_status":       httpStatus,
	"ssl":               func(c *Call) lua.LValue { return onOff(c.Query.Request.TLS.Secured) },
	"ssl_protocol":      func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Protocol) },
	"ssl_cipher":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Cipher) },
	"ssl_client_verify": func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientVerify) },
	"ssl_client_dn":     func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientDN) },
	"ssl_client_cn":     func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientCN) },
	"ssl_issuer":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientIssuer) },
	"ssl_serial":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientSerial) },
	"ssl_fingerprint":   func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientFingerprint) },
	"redis_prefix":      func(c *Call) lua.LValue { return lua.LString(c.RedisPrefix) },
	"log_format":        logFormat,
	"log_level":         func(c *Call) lua.LValue { return lua.LString(c.LogLevel) },
	"logging":           logging,

	"brute_force_counter": func(*Call) lua.LValue { return lua.LNumber(0) },
	"latency":             func(c *Call) lua.LValue { return lua.LNumber(time.Since(c.Began).Milliseconds()) },

	// What only Nauthilus knows.
	"account_field": empty, "unique_user_id": empty, "display_name": empty,
	"user_agent": empty, "client_net": empty, "brute_force_bucket": empty,
	"feature": empty, "oidc_cid": empty, "status_message": empty,
	"ssl_session_id": empty, "ssl_client_not_before": empty, "ssl_client_not_after": empty,
	"ssl_subject_dn": empty, "ssl_issuer_dn": empty,
	"ssl_client_subject_dn": empty, "ssl_client_issuer_dn": empty,
}

func empty(*Call) lua.LValue { return emptyText }

// password is shown only to filters whose configuration says needs_password.
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
func RequestFields() []string { return slices.Sorted(maps.Keys(requestFields)) }

// RequestField is a field as the script of c sees it; nil when there is none of
// that name.
func RequestField(c *Call, name string) lua.LValue {
	if field := requestFields[name]; field != nil {
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
		if field := requestFields[name]; field != nil && name != "latency" && name != "logging" {
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
	for name, field := range requestFields {
		t.RawSetString(name, field(c))
	}
}
