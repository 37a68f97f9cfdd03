package monitor

import (
	"context"
	"errors"
	"os"

	"usher/proxy"
)

// CheckConnection runs one check of s now, outside of the inventory, for a
// policy that asks: a connection, and what s says of TLS and PROXY headers; of a
// protocol that has no check of its own nothing more. ctx bounds it. The error's
// text is made for an operator.
func (m *Monitor) CheckConnection(ctx context.Context, s *proxy.Server) error {
	addr, err := m.opt.Names.Lookup(ctx, s.Host)
	if err != nil {
		return unresolved(err, m.opt.Timeout)
	}
	err = m.check(ctx, s, addr, nil)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("timeout") // the caller's, which explain does not know
	}
	return err
}
