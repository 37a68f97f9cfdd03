package passdb

import (
	"context"

	"usher/proxy"
)

// User answers a userdb look-up. No driver can yet.
func (c *Chain) User(context.Context, *proxy.Request) ([]proxy.Attr, error) {
	return nil, proxy.ErrNotServed
}

// List lists the users. No driver can yet.
func (c *Chain) List(context.Context, string, func(string) bool) error { return proxy.ErrNotServed }
