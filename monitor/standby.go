package monitor

import "usher/proxy"

// standBy takes the weight of those entries from SRV records that have others of a
// better priority beside them: clients must go to the best that they can reach (RFC
// 2782), and only when none of these is up, to the next. A weight that an operator
// ordered stands. The caller holds m.publishing, or
// has the targets to itself.
func standBy(entries []proxy.Entry, targets []*target, orders *Orders) {
	type group struct{ srv, protocol string }
	var best map[group]int
	var down map[string]bool // hosts: see proxy.View
	isDown := func(e *proxy.Entry) bool { return e.Health == proxy.Down || e.Admin == proxy.AdminDown }
	for i, t := range targets {
		if t.server.SRV != "" && best == nil {
			best, down = map[group]int{}, map[string]bool{}
		}
		if best != nil && isDown(&entries[i]) && (t.server.Protocol == "imap" || t.server.Protocol == "pop3") {
			down[t.machine] = true
		}
	}
	if best == nil {
		return
	}
	for i, t := range targets {
		s := t.server
		if s.SRV == "" || down[t.machine] || isDown(&entries[i]) {
			continue
		}
		g := group{s.SRV, s.Protocol}
		if p, known := best[g]; !known || s.Priority < p {
			best[g] = s.Priority
		}
	}
	for i, t := range targets {
		s := t.server
		p, known := best[group{s.SRV, s.Protocol}]
		if s.SRV == "" || !known || s.Priority <= p || orders.of(t.machine, t.entry).Weight != nil {
			continue
		}
		entries[i].Standby, entries[i].Server = true, t.weigh(0)
	}
}
