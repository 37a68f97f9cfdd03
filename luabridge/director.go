package luabridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
	"go.uber.org/zap"

	"usher/luabridge/modules"
	"usher/proxy"
)

// maxScript bounds a script's size in bytes.
const maxScript = 1 << 20

// A Filter is one policy script and the requests that it runs on.
type Filter struct {
	Name string // for logs; unique
	Path string // of the file, for error texts
	Text string // Lua source

	WhenAuthenticated   bool
	WhenUnauthenticated bool // after a refused password, for side effects
	WhenNoAuth          bool // userdb look-ups and the like
	NeedsPassword       bool // request.password is shown
}

// ReadFilter reads a script's file into a Filter; its name is the file's.
func ReadFilter(path string) (Filter, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Filter{}, err
	}
	if info.Size() > maxScript {
		return Filter{}, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), maxScript)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Filter{}, err
	}
	return Filter{Name: strings.TrimSuffix(filepath.Base(path), ".lua"), Path: path, Text: string(text)}, nil
}

// Options configure a Director.
type Options struct {
	Filters     []Filter
	Deps        *modules.Deps
	Timeout     time.Duration // of one request, all filters
	Steps       int           // Lua instructions of one request, all filters
	PoolSize    int           // states; 0: four a core
	PackagePath string        // Lua's package.path: patterns with ?, parted by ;
}

// A Director runs the configured filters, in order. It does not change once
// made; a reload makes another.
type Director struct {
	opt     Options
	filters []filter
	pool    chan *state // nil: a place whose state is not made yet

	mu    sync.Mutex
	files map[string]*lua.FunctionProto // modules of package_path, by name
}

type filter struct {
	Filter
	proto *lua.FunctionProto
}

// New compiles the scripts and runs each once, without a request. Every fault
// of every script is in the error, a line each, naming file and line.
func New(opt Options) (*Director, error) {
	switch {
	case opt.Deps == nil || opt.Deps.Log == nil:
		return nil, errors.New("luabridge: no logger")
	case len(opt.Filters) == 0:
		return nil, errors.New("luabridge: no filters")
	case opt.Timeout <= 0:
		return nil, errors.New("luabridge: timeout is 0")
	case opt.Steps < 1:
		return nil, errors.New("luabridge: steps is under 1")
	}
	if opt.PoolSize < 1 {
		opt.PoolSize = 4 * runtime.GOMAXPROCS(0)
	}
	d := &Director{opt: opt, pool: make(chan *state, opt.PoolSize), files: map[string]*lua.FunctionProto{}}
	var faults []error
	for _, f := range opt.Filters {
		proto, err := compile(f.Path, f.Text)
		if err == nil {
			err = d.probe(f, proto)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		d.filters = append(d.filters, filter{f, proto})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for range opt.PoolSize {
		d.pool <- nil
	}
	return d, nil
}

// compile turns Lua source into a prototype. Its errors begin with path:line.
func compile(path, text string) (*lua.FunctionProto, error) {
	chunk, err := parse.Parse(strings.NewReader(text), path)
	if syntax := (*parse.Error)(nil); errors.As(err, &syntax) {
		if syntax.Pos.Line == parse.EOF {
			return nil, fmt.Errorf("%s:%d: %s at the end of the file", path, strings.Count(text, "\n")+1, syntax.Message)
		}
		return nil, fmt.Errorf("%s:%d: %s near %q", path, syntax.Pos.Line, syntax.Message, syntax.Token)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	proto, err := lua.Compile(chunk, path)
	if fault := (*lua.CompileError)(nil); errors.As(err, &fault) {
		return nil, fmt.Errorf("%s:%d: %s", path, fault.Line, fault.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A chunk can't name the table arg, which gopher-lua would make for each run
	// of it: 2.7 KB.
	proto.IsVarArg &^= lua.VarArgNeedsArg
	return proto, nil
}

// probe runs a script's chunk, so that a module that is missing stops the start
// and not the first login, and looks for the entry function.
func (d *Director) probe(f Filter, proto *lua.FunctionProto) error {
	s := newState(d)
	defer s.L.Close()
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.Timeout)
	defer cancel()
	now := time.Now()
	s.budget.reset(ctx, d.opt.Steps, now, now.Add(d.opt.Timeout))
	q := &proxy.Query{Request: &proxy.Request{}, View: proxy.NewView(nil), DryRun: true}
	c := &modules.Call{Deps: d.opt.Deps, Query: q, Script: f.Name, Ctx: ctx, Began: now, End: s.budget.end}
	if _, _, err := s.run(proto, c, ""); err != nil {
		return err
	}
	if _, ok := c.Env.RawGetString(entryFilter).(*lua.LFunction); !ok {
		return fmt.Errorf("%s: defines no function %s", f.Path, entryFilter)
	}
	return nil
}

const entryFilter = "nauthilus_call_filter"

// Direct implements proxy.Director.
func (d *Director) Direct(ctx context.Context, q *proxy.Query) (v proxy.Verdict, err error) {
	wanted := false
	for i := range d.filters {
		wanted = wanted || d.filters[i].wants(q)
	}
	if !wanted {
		return proxy.Verdict{}, nil
	}
	began := time.Now()
	end := began.Add(d.opt.Timeout)
	s, err := d.acquire(ctx, end)
	if err != nil {
		return proxy.Verdict{}, err
	}
	good := false
	defer func() {
		// Lua's own protected calls catch what panics in a script's reach. What
		// gets here is a fault of the bridge, and no reason to end the service.
		if p := recover(); p != nil {
			d.opt.Deps.Log.Error("policy: panic", zap.String("id", q.ID), zap.Stack("stack"))
			v, err = proxy.Verdict{}, &proxy.PolicyFault{Kind: proxy.PolicyError, Err: errors.New("policy: panic in the Lua bridge")}
		}
		d.release(s, good)
	}()

	s.budget.reset(ctx, d.opt.Steps, began, end)
	for i := range d.filters {
		f := &d.filters[i]
		if !f.wants(q) {
			continue
		}
		if err := s.ask(ctx, f, q, &v); err != nil {
			return proxy.Verdict{}, d.policyFault(s, f, err)
		}
	}
	good = true
	if v.Refused {
		v.Selected = false
	}
	return v, nil
}

// wants reports whether the filter runs on such a request.
func (f *filter) wants(q *proxy.Query) bool {
	switch {
	case q.Request.NoAuth:
		return f.WhenNoAuth
	case q.Authenticated:
		return f.WhenAuthenticated
	}
	return f.WhenUnauthenticated
}

// ask runs one filter and merges what it said into v: any refusal refuses, the
// last selection wins, the first text stays.
func (s *state) ask(ctx context.Context, f *filter, q *proxy.Query, v *proxy.Verdict) error {
	c := &modules.Call{Deps: s.director.opt.Deps, Query: q, Script: f.Name, ShowPassword: f.NeedsPassword, Ctx: ctx, Began: s.budget.began, End: s.budget.end}
	c.Verdict.Changes, c.Verdict.Logs = v.Changes, v.Logs
	action, result, err := s.run(f.proto, c, entryFilter)
	if err != nil {
		return err
	}
	said := &c.Verdict
	v.Changes, v.Logs = said.Changes, said.Logs
	if (lua.LVAsBool(action) || said.Refused) && !v.Refused {
		v.Refused = true
		v.By = "policy:" + f.Name
	}
	if c.TextSet() && v.Text == "" {
		v.Text = said.Text
	}
	if said.Selected {
		v.Selected, v.Host, v.Port, v.Reason = true, said.Host, said.Port, said.Reason
		if !v.Refused && v.Hold == 0 {
			v.By = said.By
		}
	}
	if said.Hold > 0 {
		v.Hold = said.Hold
		if !v.Refused {
			v.By = "policy:" + f.Name
		}
	}
	if n, ok := result.(lua.LNumber); ok && n != 0 {
		v.Failed = true
		s.director.opt.Deps.Log.Warn("policy result: fail", fieldsOf(f.Name, q.ID)...)
	}
	return nil
}

// policyFault says of which kind a failure is.
func (d *Director) policyFault(s *state, f *filter, err error) error {
	kind := proxy.PolicyError
	switch {
	case s.budget.fault == nil:
	case errors.Is(s.budget.fault, errDeadline):
		kind = proxy.PolicyTimeout
	default:
		kind = proxy.PolicyBudget
	}
	return &proxy.PolicyFault{Kind: kind, Err: fmt.Errorf("policy %s: %w", f.Name, err)}
}

// acquire takes a state from the pool, or waits for one until the request's
// deadline.
func (d *Director) acquire(ctx context.Context, end time.Time) (*state, error) {
	var s *state
	select {
	case s = <-d.pool:
	default:
		t := time.NewTimer(time.Until(end))
		defer t.Stop()
		select {
		case s = <-d.pool:
		case <-t.C:
			return nil, &proxy.PolicyFault{Kind: proxy.PolicyTimeout, Err: errors.New("policy: all Lua states are busy (director.pool_size)")}
		case <-ctx.Done():
			return nil, &proxy.PolicyFault{Kind: proxy.PolicyTimeout, Err: ctx.Err()}
		}
	}
	if s == nil {
		s = newState(d)
	}
	return s, nil
}

// release gives a state back. One that failed is thrown away: nobody knows what
// the script left half-done.
func (d *Director) release(s *state, good bool) {
	if !good {
		s.L.Close()
		s = nil
	} else {
		s.L.SetTop(0)
		s.budget = budget{} // nothing of the request waits in the pool
	}
	d.pool <- s
}
