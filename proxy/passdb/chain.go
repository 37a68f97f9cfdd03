package passdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"usher/proxy"
)

// A Chain asks drivers in order until one knows the user. It implements
// proxy.Verifier.
type Chain struct {
	drivers []Driver
}

// New makes a chain. One without drivers can answer nobody: each request is a
// temporary failure (a site whose upstream verifies all needs none).
func New(drivers ...Driver) *Chain { return &Chain{drivers: drivers} }

var errNoDriver = errors.New("passdb: no password driver is configured")

// Verify implements proxy.Verifier. A user whom no driver knows is refused as
// with a wrong password, by the last driver.
func (c *Chain) Verify(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	for _, d := range c.drivers {
		id, err := d.Lookup(ctx, r)
		switch {
		case err == nil:
			if id.Driver == "" {
				id.Driver = d.Name()
			}
			id.Verified = id.Verified && d.Verifies()
			return id, nil
		case errors.Is(err, proxy.ErrDenied):
			return proxy.Identity{}, refusal(d.Name(), err)
		case !errors.Is(err, ErrUnknownUser):
			return proxy.Identity{}, temporary(d.Name(), err)
		}
	}
	if len(c.drivers) == 0 {
		return proxy.Identity{}, errNoDriver
	}
	last := c.drivers[len(c.drivers)-1]
	if dec, ok := last.(decoy); ok {
		err := dec.decoy(ctx, r)
		switch {
		case errors.Is(err, proxy.ErrDenied):
			return proxy.Identity{}, refusal(last.Name(), err)
		case err != nil:
			return proxy.Identity{}, temporary(last.Name(), err)
		}
	}
	return proxy.Identity{}, deny(last.Name(), proxy.BadPassword, "")
}

// refusal makes sure that a refusal says who refused, and why.
func refusal(driver string, err error) error {
	var d *proxy.Denial
	if !errors.As(err, &d) {
		return deny(driver, proxy.BadPassword, "")
	}
	if d.By != "" && d.Reason != "" {
		return err
	}
	full := *d
	if full.By == "" {
		full.By = by(driver)
	}
	if full.Reason == "" {
		full.Reason = proxy.BadPassword
	}
	return &full
}

func temporary(driver string, err error) error {
	return fmt.Errorf("passdb: %s: %w", driver, err)
}

// Verifies reports whether a driver of the chain compares passwords. Drivers
// behind passthrough do not count: they are never asked.
func (c *Chain) Verifies() bool {
	for _, d := range c.reached() {
		if d.Verifies() {
			return true
		}
	}
	return false
}

// Warnings returns what an operator should know about the order of the
// drivers, a sentence each.
func (c *Chain) Warnings() []string {
	rest := c.drivers[len(c.reached()):]
	if len(rest) == 0 {
		return nil
	}
	names := make([]string, len(rest))
	for i, d := range rest {
		names[i] = d.Name()
	}
	return []string{"passdb: passthrough takes every user, so the drivers after it are never asked: " +
		strings.Join(names, ", ") + "; put passthrough last"}
}

// reached returns the drivers up to the first that takes every user.
func (c *Chain) reached() []Driver {
	for i, d := range c.drivers {
		if _, ok := d.(Passthrough); ok {
			return c.drivers[:i+1]
		}
	}
	return c.drivers
}
