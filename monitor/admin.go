package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"usher/proxy"
)

// MaxWeight is the highest weight of a host.
const MaxWeight = 1000

// An AdminState keeps what operators ordered for backends, beside what checks
// find out. An AdminFile does for one node; a store that nodes share can too. All
// methods may be called by many goroutines at once.
type AdminState interface {
	// Orders returns what stands now, never nil, without waiting.
	Orders() *Orders
	// Order adds c to what stands and keeps it for good: when it returns nil, the
	// watchers have been called, and a restart remembers. After an error nothing
	// has changed.
	Order(ctx context.Context, c Change) error
	// Watch has f called after each change, whoever made it, until stop.
	Watch(f func()) (stop func())
}

// A Stamp says who gave an order, when, and why.
type Stamp struct {
	By     string    `json:"by"`
	At     time.Time `json:"at,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// A Change is one order. State or Weight is set, or both.
type Change struct {
	Target Target
	State  *proxy.Admin
	Weight *int // 0-1000; of the host, whatever the port
	Stamp  Stamp
}

// An Order is what stands for a host or for one entry.
type Order struct {
	State       string `json:"state,omitempty"` // up, drain, down; "": no order
	StateStamp  *Stamp `json:"state_by,omitempty"`
	Weight      *int   `json:"weight,omitempty"` // of hosts only
	WeightStamp *Stamp `json:"weight_by,omitempty"`
}

// Orders are what stands. They are immutable. The last order for a host's state
// replaces those for its entries.
type Orders struct {
	byTarget map[string]Order // HOST or HOST:PORT, canonical
}

// For returns what stands for the entry of that host (as configured) and port.
func (o *Orders) For(host string, port int) Order {
	machine := proxy.CanonicalHost(host)
	return o.of(machine, proxy.HostPort(machine, port))
}

func (o *Orders) of(machine, entry string) Order {
	order := o.byTarget[machine]
	if own := o.byTarget[entry]; own.State != "" {
		order.State, order.StateStamp = own.State, own.StateStamp
	}
	return order
}

// Each calls f for what stands, hosts and entries in order, those of a host behind
// it.
func (o *Orders) Each(f func(target string, order Order)) {
	for _, target := range slices.Sorted(maps.Keys(o.byTarget)) {
		f(target, o.byTarget[target])
	}
}

// with returns what stands after c.
func (o *Orders) with(c Change) *Orders {
	all := maps.Clone(o.byTarget)
	if all == nil {
		all = map[string]Order{}
	}
	key := c.Target.String()
	if c.State != nil {
		if c.Target.Port == 0 {
			maps.DeleteFunc(all, func(k string, _ Order) bool { return entryOf(k, c.Target.Host) })
		}
		order, stamp := all[key], c.Stamp
		order.State, order.StateStamp = c.State.String(), &stamp
		all[key] = order
	}
	if c.Weight != nil {
		order, weight, stamp := all[c.Target.Host], *c.Weight, c.Stamp
		order.Weight, order.WeightStamp = &weight, &stamp
		all[c.Target.Host] = order
	}
	return &Orders{all}
}

// entryOf reports whether a key of Orders is HOST:PORT of that host.
func entryOf(key, host string) bool {
	t, err := ParseTarget(key)
	return err == nil && t.Port != 0 && t.Host == host
}

// Valid collects every fault of a Change.
func (c *Change) Valid() error {
	var faults []error
	if c.State == nil && c.Weight == nil {
		faults = append(faults, errors.New("an order without a state and without a weight"))
	}
	if c.State != nil && *c.State > proxy.AdminDown {
		faults = append(faults, errors.New("an unknown state"))
	}
	if c.Weight != nil && (*c.Weight < 0 || *c.Weight > MaxWeight) {
		faults = append(faults, fmt.Errorf("weight %d is out of range; expected 0 to %d", *c.Weight, MaxWeight))
	}
	for _, s := range []string{c.Stamp.By, c.Stamp.Reason} {
		if len(s) > maxWords || printable(s, maxWords) != s {
			faults = append(faults, fmt.Errorf("who and why are at most %d bytes without control characters", maxWords))
		}
	}
	return errors.Join(faults...)
}

// order puts what stands for the target into its entry.
func (t *target) order(e *proxy.Entry, orders *Orders) {
	if len(orders.byTarget) == 0 {
		return
	}
	o := orders.of(t.machine, t.entry)
	e.Admin, _ = proxy.ParseAdmin(o.State) // "": up
	if o.Weight == nil || *o.Weight == t.server.Weight {
		return
	}
	e.Server = t.weigh(*o.Weight)
}

// weigh returns the target's Server with another weight, always the same one for
// the weight that it was last asked for.
func (t *target) weigh(weight int) *proxy.Server {
	if t.weighted == nil || t.weighted.Weight != weight {
		s := *t.server
		s.Weight = weight
		t.weighted = &s
	}
	return t.weighted
}

// Preview is Status as c would make it.
func (m *Monitor) Preview(c Change) []proxy.Entry {
	orders := m.opt.Admin.Orders().with(c)
	sh := m.shown.Load()
	entries := m.status(sh)
	targets := make([]*target, len(entries))
	for i := range entries {
		targets[i] = newTarget(sh.targets[i].server)
		entries[i].Server, entries[i].Admin, entries[i].Standby = targets[i].server, proxy.AdminUp, false
		targets[i].order(&entries[i], orders)
	}
	standBy(entries, targets, orders)
	return entries
}

// noAdmin is the AdminState of a Monitor that was given none.
type noAdmin struct{}

func (noAdmin) Orders() *Orders { return &Orders{} }
func (noAdmin) Order(context.Context, Change) error {
	return errors.New("orders are not kept here")
}
func (noAdmin) Watch(func()) func() { return func() {} }
