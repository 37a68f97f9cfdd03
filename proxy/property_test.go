package proxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/affinity"
	"usher/proxy/moves"
)

var (
	worldSeed  = flag.Uint64("seed", 0, "seed of the first world; 0: any")
	worldCount = flag.Int("worlds", 6, "how many worlds of each kind")
)

// Whatever happens, one user is on one host: logins by all protocols, hosts that
// come, go, fall, are drained and reweighted, holds, pins, moves, flushes, expiry
// and refreshes, in random order. With affinity.mode enforce that holds for every
// policy.
func TestPlacement(t *testing.T) {
	for _, kind := range []struct {
		name string
		mode AffinityMode
		wild bool
	}{{"built-in policy", AffinityPolicy, false}, {"enforce", AffinityEnforce, false}, {"enforce and any policy", AffinityEnforce, true}} {
		t.Run(kind.name, func(t *testing.T) {
			first := *worldSeed
			if first == 0 {
				first = rand.Uint64N(1e9)
			}
			saw := map[string]int{}
			for i := range *worldCount {
				seed := first + uint64(i)
				synctest.Test(t, func(t *testing.T) {
					var director Director
					if kind.wild {
						director = wild(seed)
					}
					w := newWorld(t, seed, kind.mode, director)
					defer func() { w.stop() }()
					w.saw = saw
					for range 400 {
						w.step(kind.wild)
						if t.Failed() {
							return
						}
					}
				})
			}
			want := []string{"hash", "sticky", "pinned", "operator", "move", "backend_down", "moved", "kicked", "expired"}
			if kind.mode == AffinityEnforce {
				want[1] = "enforced"
			}
			if kind.wild {
				want[0] = "selected"
			}
			for _, what := range want {
				if saw[what] == 0 && !t.Failed() {
					t.Errorf("first seed %d: it never came to %q: %v", first, what, saw)
				}
			}
			t.Log(saw)
		})
	}
}

// wild is a policy that selects hosts by dice, also those that are down.
func wild(seed uint64) Director {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	return fakeDirector(func(q *Query) (Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		var of []*Entry
		for i := range q.View.Entries {
			if e := &q.View.Entries[i]; e.Protocol == q.Request.Protocol && (q.Request.Upstream == nil || e.Tag() == q.Key.Tag) {
				of = append(of, e)
			}
		}
		if len(of) == 0 || rng.IntN(10) == 0 {
			return Verdict{}, nil
		}
		return Verdict{Selected: true, Host: of[rng.IntN(len(of))].Host, Reason: Selected, By: "policy:wild"}, nil
	})
}

// step is one thing that happens.
func (w *world) step(wild bool) {
	w.settle()
	switch n := w.intn(100); {
	case n < 50:
		w.login(wild)
	case n < 65:
		w.change()
	case n < 75:
		w.sleep(time.Duration(w.intn(int(worldExpire / 3))))
	case n < 77:
		w.sleep(time.Duration(w.intn(int(2 * worldExpire))))
	case n < 82:
		w.logout()
	case n < 90:
		w.order()
	case n < 97:
		w.move()
	case n < 98:
		w.flush()
	default:
		w.note("restart")
		w.stop()
		w.start()
	}
}

func (w *world) anybody() person { return w.people[w.intn(len(w.people))] }

// login lets somebody log in, and compares with what is right.
func (w *world) login(wild bool) {
	p := w.anybody()
	name := p.names[w.intn(len(p.names))]
	protocol := []string{"imap", "imap", "imap", "pop3", "sieve", "lmtp", "doveadm"}[w.intn(7)]
	assigned := w.live(p.key)
	d := w.pipeline.Handle(context.Background(), w.request(p, protocol, name))
	w.note("%s by %s: %s %s %s, %s (%v); was on %q", name, protocol, d.Outcome, d.By, d.Reason, d.Host, d.Err, assigned)

	w.mu.Lock()
	w.saw[string(d.Reason)]++
	pin, held := w.pins[p.key.Name], w.holds[p.key.Name] || w.engine.Load().Moving(p.key)
	w.mu.Unlock()
	if held && protocol != "doveadm" {
		if d.Outcome != Held {
			w.wrong("%s shall wait; %s", name, d.Outcome)
		}
		return
	}
	served := protocol
	if !w.View().Serves(protocol) {
		served = ""
	}
	ours := slices.DeleteFunc(slices.Clone(w.machines), func(m *machine) bool { return w.tagged && m.tag != p.key.Tag })

	stands := pin
	if a := w.machine(assigned); stands == "" && a != nil && a.up() {
		stands = assigned
	}
	var lacks bool // the user's own host has no such service: another one lends it
	if h := w.machine(stands); h != nil {
		lacks = h.present && served != "" && h.services[served] == nil
		if !lacks {
			w.checkStanding(name, h, served, pin != "" && pin != assigned, d)
		}
	}
	if stands == "" || lacks {
		w.checkNew(name, p.key, served, ours, wild && !lacks, d)
	}
	if d.Outcome != Routed {
		return
	}
	if h := w.machine(d.Host); !slices.Contains(ours, h) {
		w.wrong("%s of %q is on %s, of %q", name, p.key.Tag, d.Host, h.tag)
	}
	if a := w.machine(assigned); a != nil && a.present && served != "" && a.services[served] == nil {
		lacks = true
	}
	if lacks || protocol == "doveadm" || protocol == "lmtp" && assigned != "" {
		return // no assignment comes of it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.homes[p.key] = home{d.Host, time.Now()}
	if protocol != "lmtp" && w.machine(d.Host).up() {
		s := seat{d.User, d.Host, time.Now()}
		if w.rng.IntN(5) == 0 {
			s.from = s.from.Add(time.Duration(w.rng.Int64N(int64(worldDelay))))
		}
		w.seats[p.key] = append(w.seats[p.key], s)
	}
}

// checkStanding looks at a login of somebody who has a host. stranger: he is pinned
// there, and was elsewhere or nowhere.
func (w *world) checkStanding(name string, h *machine, protocol string, stranger bool, d Decision) {
	c := h.services[protocol]
	switch {
	case !h.present:
		if w.opt.DenyUnlisted && d.Outcome != TempFail || !w.opt.DenyUnlisted && d.Host != h.host {
			w.wrong("%s is pinned to %s, which left; %s %s", name, h.host, d.Outcome, d.Host)
		}
	case !h.up(), c != nil && c.down():
		if d.Outcome != TempFail || d.Reason != BackendDown {
			w.wrong("%s belongs on %s, which is down for %q; %s %s %s", name, h.host, protocol, d.Outcome, d.Reason, d.Host)
		}
	case stranger && c != nil && c.health != Up && d.Outcome == TempFail:
	case d.Outcome != Routed || d.Host != h.host:
		w.wrong("%s belongs on %s; %s %s %s", name, h.host, d.Outcome, d.Reason, d.Host)
	}
}

// checkNew looks at a login of somebody who has no host that is up.
func (w *world) checkNew(name string, key affinity.Key, protocol string, ours []*machine, wild bool, d Decision) {
	var want *machine
	top := math.Inf(-1)
	for _, m := range ours {
		if s := affinity.Score(affinity.HashKey(key.Name), affinity.HashHost(m.host), m.taking(protocol)); s > top {
			want, top = m, s
		}
	}
	switch {
	case wild && d.Outcome == Routed:
		if m := w.machine(d.Host); !m.up() || m.services[protocol] != nil && m.services[protocol].down() {
			w.wrong("%s is routed to %s, which is down", name, d.Host)
		}
	case wild && d.Outcome == TempFail:
	case want == nil:
		if d.Outcome != TempFail {
			w.wrong("nobody takes %s by %q; %s %s", name, protocol, d.Outcome, d.Host)
		}
	case d.Outcome != Routed || d.Host != want.host:
		w.wrong("%s is new by %q, and the hash gives %s; %s %s %s", name, protocol, want.host, d.Outcome, d.Reason, d.Host)
	}
}

// change makes something else of a machine, and looks at whom the hash sends
// elsewhere for it.
func (w *world) change() {
	m := w.machines[w.intn(len(w.machines))]
	protocols := []string{"imap", "pop3", "sieve", "lmtp"}
	c := m.services[protocols[w.intn(4)]]
	old := w.View()
	before := w.taking()
	switch w.intn(6) {
	case 0:
		m.weight = []int{0, 50, 100, 400}[w.intn(4)]
	case 1:
		m.present = w.intn(4) > 0 || !slices.ContainsFunc(w.machines, func(o *machine) bool { return o != m && o.present })
	case 2, 3:
		if c != nil {
			c.health = []Health{Up, Up, Up, Down, Unknown, Stale}[w.intn(6)]
		}
	case 4:
		if c != nil {
			c.admin = []Admin{AdminUp, AdminUp, AdminDrain, AdminDown}[w.intn(4)]
		}
	default:
		a := []Admin{AdminUp, AdminUp, AdminUp, AdminDrain, AdminDown}[w.intn(5)]
		if a == AdminUp {
			m.present, m.weight = true, max(m.weight, 50)
		}
		for _, c := range m.services {
			c.admin = a
			if a == AdminUp {
				c.health = Up
			}
		}
	}
	w.publish()
	w.note("%s: present %t, weight %d, up %t, %s", m.host, m.present, m.weight, m.up(), conditions(m))
	after := w.taking()
	for _, p := range w.people {
		for _, protocol := range protocols {
			was, is := w.hashed(old, p.key, protocol), w.hashed(w.View(), p.key, protocol)
			if was == nil || is == nil || was.Host == is.Host || old.Serves(protocol) != w.View().Serves(protocol) {
				continue
			}
			a, b := protocol+" "+was.Host, protocol+" "+is.Host
			if after[a] >= before[a] && after[b] <= before[b] {
				w.wrong("the hash takes %s by %s from %s to %s, and neither takes more or less users than before", p.key.Name, protocol, was.Host, is.Host)
			}
		}
	}
}

func conditions(m *machine) (text string) {
	for _, p := range []string{"imap", "pop3", "sieve", "lmtp"} {
		if c := m.services[p]; c != nil {
			text += fmt.Sprintf(" %s %s/%s", p, c.health, c.admin)
		}
	}
	return text
}

// taking is machine.taking of all, by protocol and host.
func (w *world) taking() map[string]int {
	weights := map[string]int{}
	for _, m := range w.machines {
		for _, p := range []string{"imap", "pop3", "sieve", "lmtp"} {
			weights[p+" "+m.host] = m.taking(p)
		}
	}
	return weights
}

// sleep lets time pass, in which proxies may refresh what lives.
func (w *world) sleep(d time.Duration) {
	w.note("sleep %s", d)
	for ; d > 0; d -= worldExpire / 4 {
		time.Sleep(min(d, worldExpire/4))
		w.settle()
		for _, p := range w.people {
			w.mu.Lock()
			seats := slices.Clone(w.seats[p.key])
			w.mu.Unlock()
			if len(seats) == 0 || !w.refresh {
				continue
			}
			if err := w.pipeline.Refresh(context.Background(), seats[0].user); err != nil {
				w.t.Fatal(err)
			}
			w.mu.Lock()
			w.homes[p.key] = home{w.homes[p.key].host, time.Now()}
			w.mu.Unlock()
		}
	}
}

// logout ends sessions that somebody has.
func (w *world) logout() {
	p := w.anybody()
	w.mu.Lock()
	delete(w.seats, p.key)
	w.mu.Unlock()
	w.note("%s logs out", p.key.Name)
}

// order is a hold, a pin, or the end of one. Who lives elsewhere is moved to where
// he is pinned.
func (w *world) order() {
	p := w.anybody()
	name := p.key.Name
	host := w.host(p)
	switch w.intn(6) {
	case 0:
		w.note("%s is held", name)
		w.mu.Lock()
		w.holds[name] = true
		w.mu.Unlock()
	case 1, 2:
		w.note("%s is released", name)
		w.mu.Lock()
		delete(w.holds, name)
		w.mu.Unlock()
	case 3, 4:
		w.note("%s is unpinned", name)
		w.mu.Lock()
		delete(w.pins, name)
		w.mu.Unlock()
	default:
		if host == "" {
			return
		}
		if assigned := w.live(p.key); assigned != "" && assigned != host {
			w.begin(moves.Order{User: p.names[w.intn(len(p.names))], Key: p.key, To: host, Pin: true})
			return
		}
		w.note("%s is pinned to %s", name, host)
		w.mu.Lock()
		w.pins[name] = host
		w.mu.Unlock()
	}
}

// host is any that somebody may be moved to, "" for none.
func (w *world) host(p person) string {
	m := w.machines[w.intn(len(w.machines))]
	if !m.up() || m.tag != p.key.Tag {
		return ""
	}
	return m.host
}

// move moves somebody, or takes a move back.
func (w *world) move() {
	p := w.anybody()
	if all := w.engine.Load().Moves(); len(all) > 0 && w.intn(4) == 0 {
		m, err := w.engine.Load().Undo(context.Background(), all[w.intn(min(len(all), 5))].ID, false, affinity.Stamp{By: "bob"})
		w.note("undo %s: %s to %s, %v", m.ID, m.Key.Name, m.To, err)
		return
	}
	if host := w.host(p); host != "" {
		w.begin(moves.Order{User: p.names[w.intn(len(p.names))], Key: p.key, To: host})
	}
}

func (w *world) begin(o moves.Order) {
	m, err := w.engine.Load().Start(context.Background(), o)
	if err != nil && !errors.Is(err, moves.ErrMoving) {
		w.t.Fatal(err)
	}
	w.note("move %s of %s to %s, pin %t: %v", m.ID, o.User, o.To, o.Pin, err)
}

// flush moves all users of a host to where the hash sends them.
func (w *world) flush() {
	host := w.machines[w.intn(len(w.machines))].host
	f, err := w.engine.Load().StartFlush(context.Background(), moves.Flush{Host: host})
	if err != nil {
		w.t.Fatal(err)
	}
	w.note("flush %s of %s", f.ID, host)
}
