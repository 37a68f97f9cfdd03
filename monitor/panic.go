package monitor

import (
	"time"

	"usher/proxy"
)

// A panicState says whether the backends of one protocol are to be believed.
// When too many of them fall silent at the same time, it is most likely this
// machine's network that broke, and moving everybody would make it worse: the
// last good set is kept until the checks make sense again.
type panicState struct {
	on     bool
	since  time.Time
	calm   time.Time // since when no more than the threshold are silent; zero: they are
	silent int       // backends that fail silently now
	of     int       // of this many that were good
}

// A census counts the backends of one protocol for panicState.next.
type census struct {
	good   int       // shown as up, or fallen silent within the window
	silent int       // of these: fallen silent, or about to
	fell   bool      // one of them has just fallen
	heard  time.Time // all of the good ones were checked since then
}

// take counts a backend that was shown as was (nil: not at all). One that an
// operator took down counts for nothing.
func (c *census) take(s *state, was *proxy.Entry, admin proxy.Admin, now time.Time, window time.Duration) {
	if admin == proxy.AdminDown {
		return
	}
	shownUp := was != nil && was.Health == proxy.Up
	fresh := s.fellSilent() && now.Sub(s.since) <= window
	if !shownUp && !fresh {
		return
	}
	c.good++
	if c.heard.IsZero() || s.checkedAt.Before(c.heard) {
		c.heard = s.checkedAt
	}
	if s.silent.IsZero() || !s.failed {
		return
	}
	c.silent++
	if fresh || shownUp && was.Kept && s.fellSilent() {
		c.fell = true
	}
}

// fellSilent reports whether it is down, and only timeouts and the local network
// say so.
func (s *state) fellSilent() bool { return s.health == proxy.Down && !s.silent.IsZero() }

// rises reports whether it was kept up, and its last check succeeded: it does not
// fall then, though it takes some more to be up by its checks.
func (s *state) rises(was *proxy.Entry) bool {
	return s.fellSilent() && !s.failed && was != nil && was.Kept
}

// next returns the state after a census. One backend alone is no panic: of two
// at least it can be said that they fell together. The end waits for a window in
// which they make sense, so that the ones that recover last fall no more.
func (p panicState) next(c census, threshold int, now time.Time, window time.Duration) panicState {
	p.silent, p.of = c.silent, c.good
	many := c.silent > 1 && c.silent*100 > threshold*c.good
	switch {
	case !p.on && many && c.fell:
		return panicState{on: true, since: now, silent: c.silent, of: c.good}
	case !p.on:
		return panicState{}
	case many:
		p.calm = time.Time{}
	case p.calm.IsZero():
		p.calm = now
	case now.Sub(p.calm) >= window:
		return panicState{}
	}
	return p
}

// keeps reports whether a backend in that state, which was shown as was, is to be
// shown as up all the same.
func (p panicState) keeps(s *state, was *proxy.Entry, now time.Time, window time.Duration) bool {
	if !p.on || !s.fellSilent() {
		return false
	}
	return was != nil && was.Health == proxy.Up || now.Sub(s.since) <= window
}

// askOthers has the good backends of t's protocol checked, for t has begun to
// fail silently: whether it is alone shall be known before it falls. Once an
// interval is enough.
func (m *Monitor) askOthers(t *target, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	protocol := t.server.Protocol
	if now.Sub(m.counted[protocol]) < m.opt.Interval {
		return
	}
	m.counted[protocol] = now
	for _, o := range m.targets {
		if o.watched != t.watched && o.server.Protocol == protocol && o.state.Load().health == proxy.Up {
			signal(o.soon)
		}
	}
}

// doubts reports whether a backend in that state, which is shown as up, is not to
// be believed yet: it fell silent, and the others have not all been heard since it
// began. A check that hangs ends the wait.
func (m *Monitor) doubts(s *state, was *proxy.Entry, c census, now time.Time) bool {
	return s.fellSilent() && was != nil && was.Health == proxy.Up &&
		c.heard.Before(s.silent) && now.Before(m.doubtEnd(s))
}

// doubtEnd is when a silent fall is believed whatever the others say.
func (m *Monitor) doubtEnd(s *state) time.Time {
	from := s.since
	if s.silent.After(from) { // it fails anew
		from = s.silent
	}
	return from.Add(m.opt.doubtFor())
}
