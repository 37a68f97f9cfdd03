package luabridge

import (
	"context"
	"errors"
	"time"

	"usher/luabridge/budget"
	"usher/proxy"
)

// An init script uploads a site's scripts, and nobody waits for it but the start
// or the reload: it has ten times a request's steps, and initTime at least.
const (
	initSteps = 10
	initTime  = 10 * time.Second
)

// RunInit runs the init scripts, in order. One that fails does not keep the others
// from running; the errors are joined, a line each. Called again, it runs those that
// have failed. Calls must not overlap.
func (d *Director) RunInit(ctx context.Context) error {
	var faults []error
	if d.opt.Deps.Redis != nil {
		d.opt.Deps.Redis.Again()
	}
	for i := range d.inits {
		if d.initRan[i] {
			continue
		}
		view := d.opt.Probe
		if view == nil {
			view = proxy.NewView(nil)
		}
		q := &proxy.Query{Request: &proxy.Request{}, ID: "init", View: view}
		limits := budget.Limits{
			Time: max(d.opt.Limits.Time, initTime), Steps: initSteps * d.opt.Limits.Steps, Memory: d.opt.Limits.Memory,
		}
		err := d.within(ctx, limits, q, func(s *state) error {
			_, _, err := s.ask(ctx, &d.inits[i], q, &proxy.Verdict{}, entryInit)
			return err
		})
		d.initRan[i] = err == nil
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
