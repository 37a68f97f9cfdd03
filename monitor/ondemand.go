package monitor

import (
	"context"
	"fmt"

	"usher/proxy"
)

// CheckConnection runs one check of s now, outside of the inventory, for a
// policy that asks. ctx bounds it. The error's text is made for an operator.
func (m *Monitor) CheckConnection(ctx context.Context, s *proxy.Server) error {
	if checks[s.Protocol] == nil {
		return fmt.Errorf("unknown protocol %.20q", s.Protocol)
	}
	addr, err := m.opt.Names.Lookup(ctx, s.Host)
	if err != nil {
		return unresolved(err, m.opt.Timeout)
	}
	return m.check(ctx, s, addr)
}
