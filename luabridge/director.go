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
	Features    []Script // asked before the password
	Init        []Script // run once, by RunInit
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

// A Director runs the scripts of one configuration: features, filters, password
// drivers and init scripts. It does not change once made; a reload makes another.
type Director struct {
	opt      Options
	features []unit
	filters  []filter
	inits    []unit
	initRan  []bool      // by index in inits: it has run, and raised nothing
	pool     chan *state // nil: a place whose state is not made yet
	probed   error

	files   sync.Map     // string -> module: those of package_path, by name
	missing atomic.Int64 // names that were asked for and are none
}

// A unit is a script at its place in the configuration.
type unit struct {
	*script
	name         string
	by           string // as decisions have it
	showPassword bool
	health       *health
}

type filter struct {
	unit
	whenAuthenticated, whenUnauthenticated, whenNoAuth bool
}

// The functions that scripts are entered by.
const (
	entryFilter   = "nauthilus_call_filter"
	entryFeature  = "nauthilus_call_feature"
	entryInit     = "nauthilus_run_hook"
	entryPassword = "nauthilus_backend_verify_password"
	entryAccounts = "nauthilus_backend_list_accounts"
)

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
	note := func(u unit, raised, err error) (good bool) {
		if err != nil {
			faults = append(faults, err)
		}
		if raised != nil {
			probed = append(probed, raised)
		}
		return err == nil
	}
	for _, f := range opt.Features {
		u, err := d.newUnit(f, "policy:"+f.Name)
		u.showPassword = f.NeedsPassword
		var raised error
		if err == nil {
			raised, err = d.probe(&u, probe{entry: entryFeature})
		}
		if note(u, raised, err) {
			d.features = append(d.features, u)
		}
	}
	for _, f := range opt.Filters {
		u, err := d.newUnit(Script{Name: f.Name, Path: f.Path, Text: f.Text}, "policy:"+f.Name)
		u.showPassword = f.NeedsPassword
		var raised error
		if err == nil {
			noAuth := !f.WhenAuthenticated && !f.WhenUnauthenticated && f.WhenNoAuth
			raised, err = d.probe(&u, probe{entry: entryFilter, noAuth: noAuth, authenticated: noAuth || f.WhenAuthenticated || !f.WhenUnauthenticated})
		}
		if note(u, raised, err) {
			d.filters = append(d.filters, filter{u, f.WhenAuthenticated, f.WhenUnauthenticated, f.WhenNoAuth})
		}
	}
	for _, f := range opt.Init {
		u, err := d.newUnit(f, "init:"+f.Name)
		if err == nil {
			_, err = d.probe(&u, probe{entry: entryInit, chunkOnly: true})
		}
		if note(u, nil, err) {
			d.inits, d.initRan = append(d.inits, u), append(d.initRan, false)
		}
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

func (d *Director) newUnit(s Script, by string) (unit, error) {
	compiled, err := newScript(s.Path, s.Text)
	return unit{
		script: compiled, name: s.Name, by: by,
		health: &health{policy: s.Name, log: d.opt.Deps.Log, observer: d.opt.Observer},
	}, err
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
	err = d.within(ctx, d.opt.Limits, q, func(s *state) error {
		v.Logs, v.Text = s.notes.logs, s.notes.text
		for i := range d.filters {
			f := &d.filters[i]
			if !f.wants(q) {
				if q.Trace != nil {
					f.passedOver(q)
				}
				continue
			}
			m := s.meter(q)
			said, action, err := s.ask(ctx, &f.unit, q, &v, entryFilter)
			if err != nil {
				return err
			}
			s.merge(&f.unit, q, &v, said, lua.LVAsBool(action[0]), action[1], m)
		}
		return nil
	})
	if err != nil {
		return proxy.Verdict{}, err
	}
	if v.Refused {
		v.Selected = false
	}
	return v, nil
}

// Before implements proxy.Gate: it asks the features, in order, until one
// triggers or says that the rest be skipped.
func (d *Director) Before(ctx context.Context, q *proxy.Query) (v proxy.Verdict, err error) {
	if len(d.features) == 0 {
		return v, nil
	}
	err = d.within(ctx, d.opt.Limits, q, func(s *state) error {
		for i := range d.features {
			u := &d.features[i]
			m := s.meter(q)
			said, action, err := s.ask(ctx, u, q, &v, entryFeature)
			if err != nil {
				return err
			}
			s.merge(u, q, &v, said, lua.LVAsBool(action[0]), action[2], m)
			if v.Refused || lua.LVAsBool(action[1]) {
				break
			}
		}
		v.Selected, v.Changes, v.Key = false, nil, "" // a feature routes nobody
		s.notes.logs, s.notes.text = v.Logs, v.Text
		return nil
	})
	if err != nil {
		return proxy.Verdict{}, err
	}
	return v, nil
}

// within runs f on a state of the pool, with a budget of its own. What went
// wrong comes back as a *proxy.PolicyFault.
func (d *Director) within(ctx context.Context, limits budget.Limits, q *proxy.Query, f func(s *state) error) (err error) {
	began := time.Now()
	s, err := d.acquire(ctx, began.Add(limits.Time))
	if err != nil {
		return err
	}
	good := false
	defer func() {
		// Lua's own protected calls catch what panics in a script's reach. What
		// gets here is a fault of the bridge, and no reason to end the service.
		if p := recover(); p != nil {
			d.opt.Deps.Log.Error("policy: panic", zap.String("id", q.ID), zap.Stack("stack"))
			err = &proxy.PolicyFault{Kind: proxy.PolicyError, Err: errors.New("policy: panic in the Lua bridge")}
		}
		d.release(s, good)
	}()
	s.budget.Start(ctx, limits, began)
	if d.opt.Observer != nil && counts(q) {
		defer func() { d.opt.Observer.PolicySteps(s.budget.Steps()) }()
	}
	s.recall(q.Request)
	err = f(s)
	s.remember(q.Request)
	good = err == nil
	return err
}

// counts reports whether a request is one: an operator's question is not.
func counts(q *proxy.Query) bool { return q.Trace == nil && !q.DryRun }

// wants reports whether the filter runs on such a request.
func (f *filter) wants(q *proxy.Query) bool {
	switch {
	case q.Request.NoAuth:
		return f.whenNoAuth
	case q.Authenticated:
		return f.whenAuthenticated
	}
	return f.whenUnauthenticated
}

// notes are what the scripts of one request leave to those that run later, in
// another state perhaps. They wait in proxy.Request.Notes.
type notes struct {
	context map[string]lua.LValue // nauthilus_context
	logs    []proxy.Attr          // custom_log_add
	text    string                // status_message_set
	secret  bool                  // one that may see the password was asked
}

func (s *state) recall(r *proxy.Request) {
	s.notes = notes{}
	if n, ok := r.Notes.(*notes); ok {
		s.notes = *n
	}
}

func (s *state) remember(r *proxy.Request) {
	if s.notes.context == nil && s.notes.logs == nil && s.notes.text == "" && !s.notes.secret {
		return
	}
	n := s.notes
	r.Notes = &n
}

// ask runs one script's entry function. What it said is valid until the next
// run, as its results are.
func (s *state) ask(ctx context.Context, u *unit, q *proxy.Query, v *proxy.Verdict, entry string) (said *proxy.Verdict, results [3]lua.LValue, err error) {
	c := &s.buf
	s.notes.secret = s.notes.secret || u.showPassword
	c.Reset(modules.Call{
		Deps: s.director.opt.Deps, Query: q, Script: u.name, By: u.by, ShowPassword: u.showPassword, KnowsPassword: s.notes.secret,
		Ctx: ctx, Began: s.budget.Began(), End: s.budget.End(), Context: &s.notes.context,
	})
	c.Verdict.Changes, c.Verdict.Header, c.Verdict.Logs = v.Changes, v.Header, v.Logs
	c.Verdict.Key, c.Verdict.KeyHost = v.Key, v.KeyHost
	results, err = s.run(u.script, c, entry)
	failing := false
	if counts(q) && ctx.Err() == nil {
		failing = u.health.ran(err)
	}
	if err != nil {
		if q.Trace != nil {
			q.Trace(fmt.Sprintf("%s: fails: %v", u.name, err))
		}
		fault := policyFault(s.budget.Fault(), u, err)
		fault.Reported = failing
		return nil, results, fault
	}
	return &c.Verdict, results, nil
}

// merge adds what a script said to v: any refusal refuses, the last selection
// wins, the first text stays.
func (s *state) merge(u *unit, q *proxy.Query, v, said *proxy.Verdict, refused bool, result lua.LValue, m meter) {
	if q.Trace != nil {
		s.explain(u, q, said, refused, result, m)
	}
	v.Changes, v.Header, v.Logs = said.Changes, said.Header, said.Logs
	if (refused || said.Refused) && !v.Refused {
		v.Refused = true
		v.By = u.by
	}
	if s.buf.TextSet() && v.Text == "" {
		v.Text = said.Text
	}
	v.Key, v.KeyHost = said.Key, said.KeyHost
	if said.TempFail && !v.TempFail {
		v.TempFail, v.TempFailText = true, said.TempFailText
		if !v.Refused {
			v.By = u.by
		}
	}
	if said.Selected {
		v.Selected, v.Host, v.Port, v.Reason = true, said.Host, said.Port, said.Reason
		if !v.Refused && !v.TempFail && v.Hold == 0 {
			v.By = said.By
		}
	}
	if said.Hold > 0 {
		v.Hold = said.Hold
		if !v.Refused && !v.TempFail {
			v.By = u.by
		}
	}
	if n, ok := result.(lua.LNumber); ok && n != 0 {
		v.Failed = true
		s.director.opt.Deps.Log.Warn("policy result: fail", zap.String("script", u.name), zap.String("id", q.ID))
	}
}

// policyFault says of which kind a failure is.
func policyFault(used error, u *unit, err error) *proxy.PolicyFault {
	kind := proxy.PolicyError
	switch {
	case used == nil:
	case errors.Is(used, budget.ErrDeadline):
		kind = proxy.PolicyTimeout
	default:
		kind = proxy.PolicyBudget
	}
	return &proxy.PolicyFault{Kind: kind, Err: fmt.Errorf("policy %s: %w", u.name, err)}
}
