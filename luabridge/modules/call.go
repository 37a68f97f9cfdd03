// Package modules holds what policies can require, one file a module. A module
// is a table of Go functions that is made once a state; what belongs to a
// request is in the Call that each function finds by its state's context.
package modules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/luabridge/budget"
	"usher/luabridge/maps"
	"usher/proxy"
	"usher/proxy/passdb"
)

// A Checker tries a connection to a backend. The monitor implements it.
type Checker interface {
	// CheckConnection connects (and, as s says, sends a PROXY header and does
	// the TLS handshake), closes again, and returns nil or what went wrong, in
	// words.
	CheckConnection(ctx context.Context, s *proxy.Server) error
}

// A Meter counts network calls. control implements it.
type Meter interface {
	// PolicyNetwork is called once a call, with the module's name without
	// nauthilus_.
	PolicyNetwork(module string, took time.Duration)
}

// Deps are what modules need of the outside.
type Deps struct {
	Log          *zap.Logger
	Checker      Checker
	DenyUnlisted bool            // unlisted_backends: deny
	Env          []string        // names that os.getenv may read
	Cache        *Store          // of nauthilus_cache; must be set
	Network      bool            // director.network
	Prom         *Prometheus     // of nauthilus_prometheus; nil: nothing is counted
	Nonce        []byte          // of nauthilus_password's hashes
	Workers      *passdb.Workers // for slow hashes; must be set where scripts compare passwords
	Meter        Meter           // nil: none
	// Getenv reads a variable that Env names; nil: os.LookupEnv.
	Getenv func(name string) (value string, set bool)
	// HTTP carries the requests of glua_http; nil: one NewTransport for the process.
	HTTP http.RoundTripper
	// DNS answers nauthilus_dns; nil: what the system's resolv.conf says.
	DNS Resolver
	// Redis is what nauthilus_redis reaches; nil: none.
	Redis *Redis
	// Clock is what scripts take for the time; nil: time.Now.
	Clock func() time.Time
	// Rotation is usher.round_robin's; nil: one of these Deps alone.
	Rotation *Rotation
	// Maps has the files of usher.map; nil: there are none.
	Maps        *maps.Registry
	Debug       bool // log.level is debug
	LogLevel    string
	LogFormat   string
	RedisPrefix string

	ownRotation Rotation
	webSilences silences // of glua_http, by host and port

	metas   sync.Map // *proxy.Server -> *lua.LTable, see serverMeta
	secrets sync.Map // test passwords of backends that scripts were shown
}

// LookupEnv reads a variable that director.env names; others are not set.
func (d *Deps) LookupEnv(name string) (value string, set bool) {
	switch {
	case !slices.Contains(d.Env, name):
		return "", false
	case d.Getenv != nil:
		return d.Getenv(name)
	}
	return os.LookupEnv(name)
}

func (d *Deps) rotation() *Rotation {
	if d.Rotation != nil {
		return d.Rotation
	}
	return &d.ownRotation
}

// A Call is one script's run for one request.
type Call struct {
	*Deps
	Query  *proxy.Query
	Script string // the filter's name
	By     string // the same, as decisions have it
	Dir    string // the folder of its file
	// ShowPassword: needs_password is set.
	ShowPassword bool
	// KnowsPassword: this script or one before it has ShowPassword, and may have told.
	KnowsPassword bool
	// Quiet: nothing is logged.
	Quiet bool
	// Ctx is the request's, and End its deadline; see deadline.
	Ctx   context.Context
	Began time.Time
	End   time.Time

	Verdict proxy.Verdict
	// Context is nauthilus_context, one for all scripts of a request.
	Context *map[string]lua.LValue
	// Env is the script's global table.
	Env *lua.LTable
	// Request is the request's table; see NewRequestMeta.
	Request *lua.LTable

	// Offline: a network call was refused since this is a dry run, so that what the
	// script did then says little.
	Offline bool
	// Loading, if not nil, is closed when a map is read that the script wanted and
	// did not get in time.
	Loading <-chan struct{}

	candidates []*proxy.Entry // of usher.servers, made when asked for
	filter     serverFilter   // of usher.servers, the last time
	picked     *proxy.Entry   // what usher.sticky or usher.hash returned last
	pickedWhy  proxy.Reason
	loaded     []loaded // what the script required
	textSet    bool
	lines      int        // logged
	logged     int        // bytes of them
	random     *rand.Rand // of math.random; nil: not seeded
	filled     bool       // Request is a plain table
	logging    *lua.LTable
	dryCache   *Store
}

// Reset makes c another call, in the same memory.
func (c *Call) Reset(to Call) {
	clear(c.loaded)
	to.loaded = c.loaded[:0]
	*c = to
}

// TextSet reports whether the script set a text for the client.
func (c *Call) TextSet() bool { return c.textSet }

// CallOf returns the request that a state works for.
func CallOf(L *lua.LState) *Call { return budget.Of(L).Owner.(*Call) }

// Redact stars what is secret in a text that is to be logged or shown: the
// request's password, and test passwords of backends.
func (c *Call) Redact(s string) string {
	var hidden []span
	c.eachSecret(func(secret string) {
		for from := 0; ; {
			i := strings.Index(s[from:], secret)
			if i < 0 {
				return
			}
			hidden = append(hidden, span{from + i, from + i + len(secret)})
			from += i + 1
		}
	})
	if hidden == nil {
		return s
	}
	// They may overlap, and one may be a part of another: first all are found.
	slices.SortFunc(hidden, func(a, b span) int { return cmp.Or(a.from-b.from, a.to-b.to) })
	var b strings.Builder
	end := 0
	for _, h := range hidden {
		if h.from >= end {
			b.WriteString(s[end:h.from])
			b.WriteString("********")
		}
		end = max(end, h.to)
	}
	b.WriteString(s[end:])
	return b.String()
}

// A span is a part of a text, from byte from to before byte to.
type span struct{ from, to int }

// eachSecret visits the secrets that the script may have seen.
func (c *Call) eachSecret(visit func(string)) {
	if c.Query != nil && c.Query.Request != nil && (c.ShowPassword || c.KnowsPassword) {
		if pass := c.Query.Request.Password; !pass.IsEmpty() {
			visit(pass.Reveal())
		}
	}
	c.secrets.Range(func(secret, _ any) bool {
		visit(secret.(proxy.Secret).Reveal())
		return true
	})
}

// tracing reports whether somebody wants to know; ask before making the words.
func (c *Call) tracing() bool { return c.Query.Trace != nil }

func (c *Call) trace(format string, args ...any) {
	c.Query.Trace(c.Script + ": " + c.Redact(fmt.Sprintf(format, args...)))
}

// How many lines, and bytes in them, one run of a script may log.
const (
	maxLines  = 100
	maxLogged = 256 << 10
)

// LogLine logs a line of the script's. The fields' texts must have been redacted.
func (c *Call) LogLine(level zapcore.Level, fields ...zap.Field) {
	ce := c.Log.Check(level, "policy")
	if ce == nil || c.Quiet {
		return
	}
	for i := range fields {
		c.logged += len(fields[i].Key) + len(fields[i].String)
	}
	if c.lines++; c.lines > maxLines || c.logged > maxLogged {
		return
	}
	fields = append(fields, zap.String("script", c.Script), zap.String("id", c.Query.ID))
	if c.lines == maxLines {
		fields = append(fields, zap.Bool("further_lines_dropped", true))
	}
	ce.Write(fields...)
}

// Logs reports whether a line of that level would be logged; ask before making
// the words.
func (c *Call) Logs(level zapcore.Level) bool {
	return !c.Quiet && c.lines < maxLines && c.Log.Core().Enabled(level)
}

// Shown is a text as logs shall have it: without what is secret, and not longer
// than most bytes. Of a long text only the beginning is looked at.
func (c *Call) Shown(s string, most int) string {
	if len(s) <= 2*most {
		return clip(c.Redact(s), most)
	}
	longest := 0
	c.eachSecret(func(secret string) { longest = max(longest, len(secret)) })
	if cut := 2*most + longest; cut < len(s) {
		// A secret that the cut goes through is not starred, so nothing that it
		// could be in is shown.
		s = c.Redact(s[:cut])
		return clip(s[:max(len(s)-longest, 0)], most)
	}
	return clip(c.Redact(s), most)
}

// Text is a value as logs shall have it.
func (c *Call) Text(L *lua.LState, v lua.LValue) string {
	s := L.ToStringMeta(v).String()
	b := budget.Of(L)
	b.Work(L, min(len(s), 2*MaxText)/16)
	b.Alloc(L, min(len(s), 2*MaxText))
	return c.Shown(s, MaxText)
}

// MaxText is how much of one text is logged, in bytes.
const MaxText = 4096

// take takes steps and bytes for what a function is about to do.
func take(L *lua.LState, steps, bytes int) {
	b := budget.Of(L)
	b.Work(L, steps)
	b.Alloc(L, bytes)
}

// argError raises the error of a wrong argument: which, of what function, what
// it was and what was expected.
func argError(L *lua.LState, n int, function, expected string) {
	L.RaiseError("bad argument #%d to %s (%s expected, got %s)%s", n, function, expected, typeName(L, n), argValue(L, n))
}

// argValue is what an error text says of an argument's value, where that says
// something.
func argValue(L *lua.LState, n int) string {
	switch v := L.Get(n).(type) {
	case lua.LString, lua.LNumber, lua.LBool:
		return ": " + budget.Of(L).Show(v)
	}
	return ""
}

func typeName(L *lua.LState, n int) string {
	if L.GetTop() < n {
		return "no value"
	}
	v := L.Get(n)
	if ud, ok := v.(*lua.LUserData); ok {
		if name, ok := TypeOf(ud); ok {
			return name
		}
	}
	return v.Type().String()
}

// deadline is the context for a Go function that blocks: for most at most, and
// no longer than the request may take.
func (c *Call) deadline(most time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(most)
	if c.End.Before(end) {
		end = c.End
	}
	return context.WithDeadline(c.Ctx, end)
}

// errOffline is what network calls of a dry run return.
var errOffline = errors.New("not tried: a dry run reaches no network (usher route --network does)")

// reach begins a network call, which what describes in a few words. The context
// ends while the script still has time to act on the failure: after three
// quarters of what is left to it, or most. When the call is over, done is told
// what came of it: for metrics and for usher route. Where policies may not reach
// the network at all it raises an error; in a dry run it returns one.
func (c *Call) reach(L *lua.LState, module string, most time.Duration, what func() string) (ctx context.Context, done func(error), err error) {
	if !c.Network {
		L.RaiseError("%s: director.network is false, so that policies reach no network", module)
	}
	return c.dial(module, most, what)
}

// dial is reach for what needs no director.network: connections to backends.
func (c *Call) dial(module string, most time.Duration, what func() string) (ctx context.Context, done func(error), err error) {
	if c.Query.DryRun {
		c.Offline = true
		if c.tracing() {
			c.trace("%s %s: %s", module, what(), errOffline)
		}
		return nil, nil, errOffline
	}
	began := time.Now()
	ctx, cancel := c.deadline(min(most, time.Until(c.End)*3/4))
	return ctx, func(err error) {
		cancel()
		took := time.Since(began)
		if c.Meter != nil {
			c.Meter.PolicyNetwork(strings.TrimPrefix(module, "nauthilus_"), took)
		}
		if c.tracing() {
			did := what()
			switch {
			case err != nil:
				did += ": " + err.Error()
			case !strings.Contains(did, " -> "):
				did += ": ok"
			}
			c.trace("%s %s (%d ms)", module, did, took.Milliseconds())
		}
	}, nil
}

// Now is the time as scripts see it.
func (c *Call) Now() time.Time {
	if c.Clock != nil {
		return c.Clock()
	}
	return time.Now()
}

// loaded is a module as one script has it. Scripts load a handful: a list is
// searched as fast as a map, and made faster.
type loaded struct {
	name  string
	value lua.LValue
}

// Loaded returns the module of that name as the script has it, or nil.
func (c *Call) Loaded(name string) lua.LValue {
	for i := range c.loaded {
		if c.loaded[i].name == name {
			return c.loaded[i].value
		}
	}
	return nil
}

// SetLoaded notes what the script has as the module of that name.
func (c *Call) SetLoaded(name string, v lua.LValue) {
	for i := range c.loaded {
		if c.loaded[i].name == name {
			c.loaded[i].value = v
			return
		}
	}
	c.loaded = append(c.loaded, loaded{name, v})
}
