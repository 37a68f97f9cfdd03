package luabridge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/luabridge/modules"
	"usher/proxy"
)

// Options configure a Director.
type Options struct {
	Filters     []Filter
	Deps        *modules.Deps
	Limits      budget.Limits // of one request, all filters
	PoolSize    int           // states; 0: four a core
	PackagePath string        // Lua's package.path: patterns with ?, parted by ;
	Observer    Observer      // nil: none
	Probe       *proxy.View   // the backends that the probe request sees; nil: none
}

// An Observer counts. control implements it.
type Observer interface {
	// PolicySteps is called once a request, with the steps that its policy took.
	PolicySteps(steps int)
	// PolicyFailing is called when a filter begins or ceases to fail on more than
	// half of its last hundred requests.
	PolicyFailing(policy string, failing bool)
}

// A Director runs the configured filters, in order. It does not change once
// made; a reload makes another.
type Director struct {
	opt     Options
	filters []filter
	pool    chan *state // nil: a place whose state is not made yet
	probed  error

	files   sync.Map     // string -> module: those of package_path, by name
	missing atomic.Int64 // names that were asked for and are none
}

type filter struct {
	Filter
	*script
	by     string // policy:NAME
	health *health
}

const entryFilter = "nauthilus_call_filter"

// New compiles the scripts, runs each once without a request and once with a
// probe request. What is wrong without a request is in the error, a line each,
// naming file and line; what the probe request raises, in Probed.
func New(opt Options) (*Director, error) {
	switch {
	case opt.Deps == nil || opt.Deps.Log == nil || opt.Deps.Cache == nil:
		return nil, errors.New("luabridge: no logger, or no cache")
	case len(opt.Filters) == 0:
		return nil, errors.New("luabridge: no filters")
	case opt.Limits.Time <= 0, opt.Limits.Steps < 1, opt.Limits.Memory < 1:
		return nil, errors.New("luabridge: a limit is 0")
	case budget.Layout() != nil:
		return nil, budget.Layout()
	}
	if opt.PoolSize < 1 {
		opt.PoolSize = 4 * runtime.GOMAXPROCS(0)
	}
	d := &Director{opt: opt, pool: make(chan *state, opt.PoolSize)}
	var faults, probed []error
	for _, f := range opt.Filters {
		script, err := newScript(f.Path, f.Text)
		if err == nil {
			var raised error
			raised, err = d.probe(f, script)
			probed = append(probed, raised)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		d.filters = append(d.filters, filter{f, script, "policy:" + f.Name, &health{policy: f.Name, log: opt.Deps.Log, observer: opt.Observer}})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	d.probed = errors.Join(probed...)
	for range opt.PoolSize {
		d.pool <- nil
	}
	return d, nil
}

// Probed is what the probe request raised, a line for each filter, or nil. It
// need not be a fault: a policy may raise errors for users that it doesn't know.
func (d *Director) Probed() error { return d.probed }

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
	s, err := d.acquire(ctx, began.Add(d.opt.Limits.Time))
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

	s.budget.Start(ctx, d.opt.Limits, began)
	counted := q.Trace == nil && !q.DryRun // an operator's question is no request
	if counted && d.opt.Observer != nil {
		defer func() { d.opt.Observer.PolicySteps(s.budget.Steps()) }()
	}
	for i := range d.filters {
		f := &d.filters[i]
		if !f.wants(q) {
			continue
		}
		err := s.ask(ctx, f, q, &v)
		failing := false
		if counted && ctx.Err() == nil {
			failing = f.health.ran(err)
		}
		if err != nil {
			fault := policyFault(s.budget.Fault(), f, err)
			fault.Reported = failing
			return proxy.Verdict{}, fault
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
	c := &s.buf
	c.Reset(modules.Call{
		Deps: s.director.opt.Deps, Query: q, Script: f.Name, By: f.by, ShowPassword: f.NeedsPassword,
		Ctx: ctx, Began: s.budget.Began(), End: s.budget.End(), Context: &s.context,
	})
	c.Verdict.Changes, c.Verdict.Logs = v.Changes, v.Logs
	action, result, err := s.run(f.script, c, entryFilter)
	if err != nil {
		return err
	}
	said := &c.Verdict
	v.Changes, v.Logs = said.Changes, said.Logs
	if (lua.LVAsBool(action) || said.Refused) && !v.Refused {
		v.Refused = true
		v.By = f.by
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
			v.By = f.by
		}
	}
	if n, ok := result.(lua.LNumber); ok && n != 0 {
		v.Failed = true
		s.director.opt.Deps.Log.Warn("policy result: fail", zap.String("script", f.Name), zap.String("id", q.ID))
	}
	return nil
}

// policyFault says of which kind a failure is.
func policyFault(used error, f *filter, err error) *proxy.PolicyFault {
	kind := proxy.PolicyError
	switch {
	case used == nil:
	case errors.Is(used, budget.ErrDeadline):
		kind = proxy.PolicyTimeout
	default:
		kind = proxy.PolicyBudget
	}
	return &proxy.PolicyFault{Kind: kind, Err: fmt.Errorf("policy %s: %w", f.Name, err)}
}
