package monitor

import (
	"context"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// publishGap is the least time between two views: when many backends change at
// once, their changes share a view. It is also what a change waits at most.
const publishGap = 10 * time.Millisecond

// View returns the present snapshot. It is made anew when the health or the
// address of a backend changes, so the times and errors of checks in it can be
// older than those that Status gives.
func (m *Monitor) View() *proxy.View { return m.view.Load() }

// Status returns every backend as it is now, in the configuration's order.
// The entries are the caller's, and their Machine is nil.
func (m *Monitor) Status() []proxy.Entry {
	now := time.Now()
	entries := make([]proxy.Entry, len(m.targets))
	for i, t := range m.targets {
		entries[i] = t.entry(now, m.rule)
	}
	return entries
}

// publish keeps the view at the states. It has a clock of its own for what
// grows stale, so a watcher that is stuck can't hide it.
func (m *Monitor) publish(ctx context.Context) {
	grace := time.NewTimer(m.opt.Timeout)
	defer grace.Stop()
	stale := time.NewTimer(m.untilStale())
	defer stale.Stop()
	waiting := !m.Ready()
	for {
		overdue := false
		select {
		case <-ctx.Done():
			return
		case <-m.dirty:
		case <-stale.C:
		case <-grace.C:
			overdue = true
		}
		m.rebuild()
		if n := m.unchecked(); waiting && (n == 0 || overdue) {
			if n > 0 {
				m.log.Warn("ready, but not all backends are checked", zap.Int("unchecked", n))
			}
			close(m.ready)
			waiting = false
		}
		stale.Reset(m.untilStale())
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishGap):
		}
	}
}

// rebuild makes a new view if the present one is no longer true, and tells of
// each transition.
func (m *Monitor) rebuild() {
	old := m.view.Load().Entries
	entries := m.Status()
	changed := false
	for i := range entries {
		if entries[i].Health != old[i].Health || entries[i].Addr != old[i].Addr {
			changed = true
			break
		}
	}
	if !changed {
		return
	}
	m.view.Store(proxy.NewView(entries))
	for i := range entries {
		if from := old[i].Health; from != entries[i].Health {
			m.logTransition(&entries[i], from)
			m.opt.Observer.Transition(entries[i].Server, from, entries[i].Health)
		}
	}
}

func (m *Monitor) logTransition(e *proxy.Entry, from proxy.Health) {
	fields := []zap.Field{
		zap.String("protocol", e.Protocol),
		zap.String("backend", e.Address()),
		zap.Stringer("from", from),
		zap.Stringer("to", e.Health),
		zap.Duration("check_took", e.CheckTook),
	}
	if e.Addr.IsValid() {
		fields = append(fields, zap.Stringer("addr", e.Addr))
	}
	if e.Health == proxy.Up {
		m.log.Info("backend health", fields...)
		return
	}
	m.log.Warn("backend health", append(fields, zap.String("error", e.LastError))...)
}

// unchecked counts the backends whose health the view does not know.
func (m *Monitor) unchecked() int {
	entries := m.view.Load().Entries
	n := 0
	for i := range entries {
		if entries[i].Health == proxy.Unknown {
			n++
		}
	}
	return n
}

// untilStale returns the time until the first result grows stale if no other
// comes. It looks at the states: those that are checked on time move on, so
// that most often there is nothing to do by then but to ask again.
func (m *Monitor) untilStale() time.Duration {
	now := time.Now()
	first := m.rule.staleAfter
	for _, t := range m.targets {
		s := t.state.Load()
		if s.health == proxy.Unknown {
			continue
		}
		if left := s.checkedAt.Add(m.rule.staleAfter).Sub(now); left > 0 {
			first = min(first, left)
		}
	}
	return first
}
