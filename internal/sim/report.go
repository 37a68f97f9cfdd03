package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"usher/proxy"
)

// A change is one of the backends.
type change struct {
	name  string
	after bool // begins where the change before it ended, not with the fleet
	apply func([]host) []host
	shown bool // its balance stands in the table
}

// several is how many hosts change at once.
const several = 10

// changes are those that are measured. one is the host that changes.
func changes(one int) []change {
	each := func(n int, do func(*host)) func([]host) []host {
		return func(list []host) []host {
			for i := range n {
				do(&list[(one+i)%len(list)])
			}
			return list
		}
	}
	down := func(h *host) { h.health = proxy.Down }
	up := func(h *host) { h.health = proxy.Up }
	return []change{
		{name: "a host is added", apply: func(list []host) []host { return append(list, newHost(len(list), list[one].weight)) }, shown: true},
		{name: "a host leaves", apply: func(list []host) []host { return slices.Delete(list, one, one+1) }},
		{name: "a host goes down", apply: each(1, down), shown: true},
		{name: "it comes back", apply: each(1, up), after: true},
		{name: "a host is drained", apply: each(1, func(h *host) { h.admin = proxy.AdminDrain })},
		{name: "a host's weight is doubled", apply: each(1, func(h *host) { h.weight *= 2 }), shown: true},
		{name: "a host's weight is set to 0", apply: each(1, func(h *host) { h.weight = 0 })},
		{name: "ten hosts go down at once", apply: each(several, down), shown: true},
		{name: "they come back", apply: each(several, up), after: true},
		{name: "ten hosts are added at once", apply: func(list []host) []host {
			for range several {
				list = append(list, newHost(len(list), list[one].weight))
			}
			return list
		}, shown: true},
	}
}

// A result is what a change came to.
type result struct {
	change
	movement
	balance // of users without assignments
}

// simulate lets users log in, then makes one change after the other.
func simulate(users int) (start balance, list []host, one int, results []result, err error) {
	list = fleet()
	one = slices.IndexFunc(list, func(h host) bool { return h.weight == 400 })
	s, err := newSite(users, list)
	if err != nil {
		return start, nil, 0, nil, err
	}
	first, err := s.logins()
	if err != nil {
		return start, nil, 0, nil, err
	}
	now, live, hashed := list, first, first
	for _, c := range changes(one) {
		if !c.after {
			if err := s.restore(live, first); err != nil {
				return start, nil, 0, nil, err
			}
			now, live, hashed = list, first, first
		}
		r := result{change: c}
		next := c.apply(slices.Clone(now))
		s.view.Store(view(next))
		moved, err := s.logins()
		if err != nil {
			return start, nil, 0, nil, fmt.Errorf("%s: %w", c.name, err)
		}
		without, err := s.hashed()
		if err != nil {
			return start, nil, 0, nil, fmt.Errorf("%s: %w", c.name, err)
		}
		r.compareLive(next, live, moved)
		r.compareHashed(now, next, hashed, without)
		r.balance = spread(next, without)
		results = append(results, r)
		now, live, hashed = next, moved, without
	}
	return spread(list, first), list, one, results, nil
}

// document is docs/balance.md.
func document(users int) ([]byte, error) {
	start, list, one, results, err := simulate(users)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	sum := total(taking(list))
	fmt.Fprintf(&b, `# How even the load is, and who moves

%s users log in, placed by the built-in policy on %d hosts with weights of 50 to 400, %.0f in all. `+"`make sim`"+` makes this page with
usher's own code, and finds the same numbers each time.

## Balance

The users of each host, in percent of what its weight makes due. The last column is what dice thrown by weight would give: what is left is
chance, and the less of it the more users there are.

| hosts | least | mean | most | standard deviation | of dice |
|---|---:|---:|---:|---:|---:|
`, grouped(users), len(list), sum)
	row := func(name string, l balance) {
		fmt.Fprintf(&b, "| %s | %.1f %% | %.1f %% | %.1f %% | %.2f %% | %.2f %% |\n", name, l.min, l.mean, l.max, l.deviation, l.chance)
	}
	row("all", start)
	for _, r := range results {
		if r.shown {
			row(r.name, r.balance)
		}
	}
	fmt.Fprintf(&b, `
## Movement

With live assignments only those move whose host went: they must. Who has none is placed by the hash, at his next login after
`+"`affinity.expire`"+` or by `+"`usher flush`"+`; of those no fewer can move than the weights make due, give or take chance, and needless is a move
between two hosts that have no more and no less to take than before. The one host that changes has weight %d, %.2f %% of all.

| change | moved | must move | needlessly | without assignments | least possible | needlessly |
|---|---:|---:|---:|---:|---:|---:|
`, list[one].weight, 100*float64(list[one].weight)/sum)
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s | %d |\n", r.name, part(r.live, users), part(r.must, users), r.needless+r.stranded,
			part(r.hashed, users), part(int(math.Round(r.least)), users), r.hashedNeedless)
	}
	return b.Bytes(), nil
}

// part is a number of users, and in percent.
func part(n, of int) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%s (%.2f %%)", grouped(n), 100*float64(n)/float64(of))
}

// grouped writes a number in groups of three digits.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
