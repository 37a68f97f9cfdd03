package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/control"
	"usher/monitor"
	"usher/proxy"
)

// backends shows entries as the admin API does. It makes a View of them.
func (a *app) backends(g *generation, entries []proxy.Entry) []control.Backend {
	proxy.NewView(entries)
	orders := a.state.admin.Orders()
	out := make([]control.Backend, len(entries))
	for i := range entries {
		e := &entries[i]
		takes, why := e.Takes()
		b := control.Backend{
			Protocol: e.Protocol, Backend: e.Address(), Host: e.Host, Port: e.Port,
			Check: e.Health.String(), Since: e.Since, CheckedAt: e.CheckedAt,
			CheckMS: float64(e.CheckTook.Microseconds()) / 1000, Failing: e.Failing, Kept: e.Kept,
			Admin: e.Admin.String(), Weight: e.Weight, Takes: string(takes), Why: why,
			Users: a.store.Assigned(e.Machine().ID), PerSecond: a.metrics.Rate(e.Server), Tags: e.Tags, SRV: e.SRV,
		}
		if e.Addr.IsValid() {
			b.Address = e.Addr.String()
		}
		if e.Failing || e.Health == proxy.Down { // of one that is well, it is history
			b.Error = e.LastError
		}
		o := orders.For(e.Host, e.Port)
		b.AdminBy, b.WeightBy = stamp(o.StateStamp), stamp(o.WeightStamp)
		out[i] = b
	}
	return out
}

func stamp(s *monitor.Stamp) *control.Stamp {
	if s == nil {
		return nil
	}
	return &control.Stamp{By: s.By, At: s.At, Reason: s.Reason}
}

// find returns the entries that a target names. Its errors wrap
// control.ErrNotFound where there is none.
func find(g *generation, target string) (monitor.Target, []proxy.Entry, error) {
	t, err := monitor.ParseTarget(target)
	if err != nil {
		return t, nil, err
	}
	entries, err := g.monitor.Find(t)
	if errors.Is(err, monitor.ErrNoBackend) {
		err = notFound{err}
	}
	return t, entries, err
}

// notFound makes an error one of the API's that say so.
type notFound struct{ error }

// Unwrap returns the error and control.ErrNotFound.
func (e notFound) Unwrap() []error { return []error{e.error, control.ErrNotFound} }

// Order implements control.Service.
func (a *app) Order(ctx context.Context, o control.BackendOrder) (control.BackendAnswer, error) {
	g := a.gen.Load()
	t, named, err := find(g, o.Target)
	if err == nil && o.Weight != nil && o.State == "" { // which is the host's
		t.Port = 0
		named, err = g.monitor.Find(t)
	}
	if err != nil {
		return control.BackendAnswer{}, err
	}
	c := monitor.Change{Target: t, Weight: o.Weight, Stamp: monitor.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason}}
	if o.State != "" {
		state, ok := proxy.ParseAdmin(o.State)
		if !ok {
			return control.BackendAnswer{}, fmt.Errorf("state %.40q; expected up, drain or down", o.State)
		}
		c.State = &state
	}
	if err := c.Valid(); err != nil {
		return control.BackendAnswer{}, err
	}
	if !o.DryRun {
		if err := a.state.admin.Order(ctx, c); err != nil {
			a.log.Error("order refused", zap.Stringer("target", t), zap.String("by", o.By), zap.Error(err))
			return control.BackendAnswer{}, err
		}
		fields := []zap.Field{zap.Stringer("target", t), zap.String("by", o.By), zap.String("reason", o.Reason)}
		if c.State != nil {
			fields = append(fields, zap.Stringer("state", *c.State))
		}
		if c.Weight != nil {
			fields = append(fields, zap.Int("weight", *c.Weight))
		}
		a.log.Info("order", fields...)
	}
	after := g.monitor.Preview(c) // a monitor that a reload has just ended shows the order no more
	ans := control.BackendAnswer{Target: t.String(), DryRun: o.DryRun, Users: a.store.Assigned(t.Host)}
	for _, b := range a.backends(g, after) {
		if slices.ContainsFunc(named, func(e proxy.Entry) bool { return b.Protocol == e.Protocol && b.Backend == e.Address() }) {
			ans.Backends = append(ans.Backends, b)
		}
	}
	ans.Warnings = leftAlone(after, named)
	return ans, nil
}

// leftAlone warns of protocols of the entries that nobody takes new users for.
func leftAlone(entries, named []proxy.Entry) (warnings []string) {
	for i := range named {
		p := named[i].Protocol
		takes := func(e proxy.Entry) bool {
			t, _ := e.Takes()
			return e.Protocol == p && t == proxy.TakesAll
		}
		w := fmt.Sprintf("no %s backend takes new users", p)
		if !slices.ContainsFunc(entries, takes) && !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// CheckBackend implements control.Service.
func (a *app) CheckBackend(ctx context.Context, target string) ([]control.CheckReport, error) {
	g := a.gen.Load()
	t, _, err := find(g, target)
	if err != nil {
		return nil, err
	}
	reports, err := g.monitor.CheckNow(ctx, t)
	if err != nil {
		return nil, err
	}
	shown := a.backends(g, g.monitor.Status())
	out := make([]control.CheckReport, len(reports))
	for i, r := range reports {
		c := control.CheckReport{OK: r.Err == nil, TookMS: float64(r.Took.Microseconds()) / 1000, Lines: r.Lines}
		if r.Err != nil {
			c.Error = r.Err.Error()
		}
		if r.Addr.IsValid() {
			c.Address = r.Addr.String()
		}
		for _, b := range shown {
			if b.Protocol == r.Entry.Protocol && b.Backend == r.Entry.Address() {
				c.Backend = b
			}
		}
		out[i] = c
	}
	return out, nil
}

// inventory is what the metrics are of.
func (g *generation) inventory() control.Inventory {
	inv := control.Inventory{Entries: g.monitor.Status()}
	for _, p := range g.monitor.Panics() {
		inv.Panics = append(inv.Panics, p.Protocol)
	}
	return inv
}

// reports pass on to the metrics what a generation's checks find out, until the
// next one stands: the old one's go on while requests need it. It implements
// monitor.Observer.
type reports struct {
	to   *control.Metrics
	over atomic.Bool
}

func (r *reports) CheckDone(s *proxy.Server, took time.Duration, err error) {
	if !r.over.Load() {
		r.to.CheckDone(s, took, err)
	}
}

func (r *reports) Transition(s *proxy.Server, from, to proxy.Health) {
	if !r.over.Load() {
		r.to.Transition(s, from, to)
	}
}

func (r *reports) Panic(protocol string, on bool) {
	if !r.over.Load() {
		r.to.Panic(protocol, on)
	}
}

// panics are the protocols whose last good set is kept.
func panics(m *monitor.Monitor) (out []control.Panic) {
	for _, p := range m.Panics() {
		out = append(out, control.Panic{Protocol: p.Protocol, Since: p.Since, Failing: p.Silent, Of: p.Of})
	}
	return out
}
