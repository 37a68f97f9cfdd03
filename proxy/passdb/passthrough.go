package passdb

import (
	"context"

	"usher/proxy"
)

// Passthrough is the driver for proxies that log in at the backend with the
// client's password: the backend compares it. It takes every user and verifies
// nobody.
type Passthrough struct{}

// Name implements Driver.
func (Passthrough) Name() string { return "passthrough" }

// Verifies implements Driver.
func (Passthrough) Verifies() bool { return false }

// Lookup implements Driver. It refuses methods that show no password, as there
// is none to log in with, and empty passwords: a backend that binds to a
// directory might take one for an unauthenticated bind (RFC 4513 section 5.1.2)
// and let the client in.
func (p Passthrough) Lookup(_ context.Context, r *proxy.Request) (proxy.Identity, error) {
	switch {
	case withoutPassword(r.Method):
		return proxy.Identity{}, deny(p.Name(), proxy.BadRequest, "")
	case r.Password.IsEmpty():
		return proxy.Identity{}, deny(p.Name(), proxy.BadPassword, "")
	}
	return proxy.Identity{Driver: p.Name()}, nil
}
