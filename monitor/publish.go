package monitor

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// publishGap is the least time between two views that checks bring about: when
// many backends change at once, their changes share a view. It is also what a
// change waits at most.
const publishGap = 10 * time.Millisecond

// What is shown: immutable, but for the clocks of the targets.
type shown struct {
	view    *proxy.View
	targets []*target // of view.Entries, one each
	panics  map[string]panicState
}

// View returns the present snapshot. It is made anew when the health, the
// address or an order of a backend changes, so the times and errors of checks in
// it can be older than those that Status gives.
func (m *Monitor) View() *proxy.View { return m.shown.Load().view }

// Status returns every backend as it is now, in the configuration's order.
// The entries are the caller's, and their Machine is nil.
func (m *Monitor) Status() []proxy.Entry { return m.status(m.shown.Load()) }

func (m *Monitor) status(sh *shown) []proxy.Entry {
	now := time.Now()
	entries := make([]proxy.Entry, len(sh.targets))
	for i, t := range sh.targets {
		s, e := t.state.Load(), sh.view.Entries[i]
		entries[i] = proxy.Entry{
			Server: e.Server, Health: e.Health, Since: e.Since, Kept: e.Kept, Standby: e.Standby, Admin: e.Admin,
			Addr: s.addr, CheckedAt: s.checkedAt, CheckTook: s.took, LastError: s.lastError, Failing: s.failed,
		}
		if h, since := s.healthAt(now, m.rule); h == proxy.Stale { // which the view will say in a moment
			entries[i].Health, entries[i].Since, entries[i].Kept = h, since, false
		}
	}
	return entries
}

// A Panic is a protocol whose last good set is kept; see Options.PanicThreshold.
type Panic struct {
	Protocol string
	Since    time.Time
	Silent   int // backends whose checks end in timeouts or errors of the local network
	Of       int // of this many that were up
}

// Panics returns the protocols that are in panic now, by name.
func (m *Monitor) Panics() []Panic {
	var out []Panic
	panics := m.shown.Load().panics
	for _, protocol := range slices.Sorted(maps.Keys(panics)) {
		if p := panics[protocol]; p.on {
			out = append(out, Panic{protocol, p.since, p.silent, p.of})
		}
	}
	return out
}

// publish keeps what is shown at the states. It has a clock of its own for what
// grows stale, so a watcher that is stuck can't hide it.
func (m *Monitor) publish(ctx context.Context) {
	grace := time.NewTimer(m.opt.Timeout)
	defer grace.Stop()
	clock := time.NewTimer(m.untilClock())
	defer clock.Stop()
	waiting := !m.Ready()
	for {
		overdue := false
		select {
		case <-ctx.Done():
			return
		case <-m.dirty:
		case <-clock.C:
		case <-grace.C:
			overdue = true
		}
		m.rebuild()
		if waiting && (overdue || m.whole()) {
			if n := m.unchecked(); n > 0 {
				m.log.Warn("ready, but not all backends are checked", zap.Int("unchecked", n))
			}
			close(m.ready)
			waiting = false
		}
		clock.Reset(m.untilClock())
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishGap):
		}
	}
}

// compose makes the entries that are to be shown next. The caller holds
// m.publishing.
func (m *Monitor) compose(before map[string]panicState, targets []*target, now time.Time) ([]proxy.Entry, map[string]panicState) {
	orders := m.opt.Admin.Orders()
	window := m.opt.panicWindow()
	counts := map[string]census{}
	entries := make([]proxy.Entry, len(targets))
	states := make([]*state, len(targets))
	for i, t := range targets {
		s := t.state.Load()
		states[i] = s
		e := &entries[i]
		*e = proxy.Entry{Server: t.server, Addr: s.addr, CheckedAt: s.checkedAt, CheckTook: s.took, LastError: s.lastError, Failing: s.failed}
		e.Health, e.Since = s.healthAt(now, m.rule)
		t.order(e, orders)
		c := counts[t.server.Protocol]
		c.take(s, t.seen.Load(), e.Admin, now, window)
		counts[t.server.Protocol] = c
	}
	panics := map[string]panicState{}
	for protocol, c := range counts {
		if p := before[protocol].next(c, m.opt.PanicThreshold, now, window); p.on {
			panics[protocol] = p
		}
	}
	doubting := false
	for i, t := range targets {
		e, s, was := &entries[i], states[i], t.seen.Load()
		p := panics[t.server.Protocol]
		doubt := !p.on && m.doubts(s, was, counts[t.server.Protocol], now)
		if e.Health != proxy.Down || !doubt && !s.rises(was) && !p.keeps(s, was, now, window) {
			continue
		}
		doubting = doubting || doubt
		e.Health, e.Kept, e.Since = proxy.Up, true, p.since
		if was != nil && was.Health == proxy.Up {
			e.Since = was.Since
		}
	}
	standBy(entries, targets, orders)
	if !m.doubting.Swap(doubting) && doubting {
		signal(m.dirty) // a check that ended meanwhile did not
	}
	return entries, panics
}

// rebuild shows what is true now, if that is something else, and tells of each
// transition.
func (m *Monitor) rebuild() {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	old := m.shown.Load()
	targets, _ := m.inventory()
	entries, panics := m.compose(old.panics, targets, time.Now())
	if old.says(entries, targets, panics) {
		m.tellPanics(panics)
		return
	}
	from := make([]proxy.Health, len(targets))
	for i, t := range targets {
		if was := t.seen.Load(); was != nil {
			from[i] = was.Health
		}
	}
	m.show(entries, targets, panics)
	for i := range targets {
		if e := &entries[i]; e.Health != from[i] {
			m.logTransition(e, from[i])
			m.opt.Observer.Transition(e.Server, from[i], e.Health)
		}
	}
	m.tellPanics(panics)
}

// show makes a view of entries and shows it. The caller holds m.publishing.
func (m *Monitor) show(entries []proxy.Entry, targets []*target, panics map[string]panicState) {
	m.shown.Store(&shown{proxy.NewView(entries), targets, panics})
	for i, t := range targets {
		t.seen.Store(&entries[i])
	}
}

// says reports whether s shows that already.
func (s *shown) says(entries []proxy.Entry, targets []*target, panics map[string]panicState) bool {
	if !slices.Equal(s.targets, targets) || !maps.Equal(s.panics, panics) {
		return false
	}
	return slices.EqualFunc(s.view.Entries, entries, func(a, b proxy.Entry) bool {
		return a.Health == b.Health && a.Addr == b.Addr && a.Admin == b.Admin && a.Kept == b.Kept && a.Server == b.Server
	})
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
	if e.Kept {
		fields = append(fields, zap.Bool("kept", true))
	}
	if e.Health == proxy.Up {
		m.log.Info("backend health", fields...)
		return
	}
	m.log.Warn("backend health", append(fields, zap.String("error", e.LastError))...)
}

// tellPanics tells of panics that nobody knows of yet, or that are over. The
// caller holds m.publishing.
func (m *Monitor) tellPanics(fresh map[string]panicState) {
	old := m.told
	m.told = fresh
	for protocol, p := range fresh {
		if !old[protocol].on {
			m.opt.Observer.Panic(protocol, true)
			m.log.Error("panic: too many backends fall by timeouts or errors of the local network, the last good set is kept",
				zap.String("protocol", protocol), zap.Int("failing", p.silent), zap.Int("of", p.of), zap.Int("panic_threshold", m.opt.PanicThreshold))
		}
	}
	for protocol, p := range old {
		if !fresh[protocol].on {
			m.opt.Observer.Panic(protocol, false)
			m.log.Warn("panic is over, checks count again", zap.String("protocol", protocol), zap.Duration("lasted", time.Since(p.since)))
		}
	}
}

// unchecked counts the backends whose health the view does not know.
func (m *Monitor) unchecked() int {
	entries := m.View().Entries
	n := 0
	for i := range entries {
		if entries[i].Health == proxy.Unknown {
			n++
		}
	}
	return n
}

// whole reports whether all backends are known, and all of these checked.
func (m *Monitor) whole() bool {
	_, partial := m.inventory()
	return !partial && m.unchecked() == 0
}

// untilClock returns the time until the first result grows stale if no other
// comes, or until a panic may be over. It looks at the states: those that are
// checked on time move on, so that most often there is nothing to do by then but
// to ask again.
func (m *Monitor) untilClock() time.Duration {
	now := time.Now()
	first := m.rule.staleAfter
	sh := m.shown.Load()
	for _, t := range sh.targets {
		s := t.state.Load()
		if s.health == proxy.Unknown {
			continue
		}
		if s.fellSilent() && m.doubting.Load() {
			first = min(first, max(m.doubtEnd(s).Sub(now), publishGap))
		}
		if left := s.checkedAt.Add(m.rule.staleAfter).Sub(now); left > 0 {
			first = min(first, left)
		}
	}
	for _, p := range sh.panics {
		if !p.calm.IsZero() {
			first = min(first, max(p.calm.Add(m.opt.panicWindow()).Sub(now), publishGap))
		}
	}
	return first
}
