package proxy

import "fmt"

// Takes says which users a backend is offered to.
type Takes string

// TakesOwn: those who are assigned to its host, and no new ones.
const (
	TakesAll  Takes = "all"
	TakesOwn  Takes = "own"
	TakesNone Takes = "none"
)

// Takes returns which users the entry of a View is offered to, and in words why
// not to all.
func (e *Entry) Takes() (Takes, string) {
	h := e.host
	switch {
	case e.Admin == AdminDown:
		return TakesNone, "ordered down"
	case e.Health == Down:
		return TakesNone, "down by its check"
	case h.Down:
		return TakesNone, "the host is down" + h.because(func(o *Entry) bool { return o.isDown() })
	case e.Admin == AdminDrain:
		return TakesOwn, "drained"
	case e.Health != Up:
		return TakesOwn, "its health is not known"
	case h.Drained:
		return TakesOwn, "the host takes no new users" + h.because(func(o *Entry) bool { return o.Admin == AdminDrain || o.Health != Up })
	case e.Standby:
		return TakesOwn, "stands by for SRV records of a better priority"
	case h.Weight == 0:
		return TakesOwn, "weight 0"
	}
	return TakesAll, ""
}

// because names the first of the host's mailbox entries that is so.
func (h *HostState) because(so func(e *Entry) bool) string {
	for _, e := range h.Entries {
		if mailbox(e.Protocol) && so(e) {
			return fmt.Sprintf(": %s at port %d", e.Protocol, e.Port)
		}
	}
	return ""
}
