package main

import (
	"math"
	"net/netip"

	"usher/proxy"
)

// A balance is how users spread over hosts, each host's number of users in percent
// of what its weight makes due.
type balance struct {
	min, mean, max, deviation float64
	chance                    float64 // the deviation that throwing dice by weight would have
}

// taking is the weight that counts for new users, by host.
func taking(list []host) map[netip.Addr]int {
	weights := map[netip.Addr]int{}
	for _, h := range list {
		if h.health == proxy.Up && h.admin == proxy.AdminUp {
			weights[h.addr] = h.weight
		}
	}
	return weights
}

func total(weights map[netip.Addr]int) (sum float64) {
	for _, w := range weights {
		sum += float64(w)
	}
	return sum
}

// spread measures users that were placed on the hosts of a list.
func spread(list []host, at placement) balance {
	have := map[netip.Addr]int{}
	for _, a := range at {
		have[a]++
	}
	weights := taking(list)
	sum, n, users := total(weights), 0.0, float64(len(at))
	b := balance{min: math.Inf(1)}
	var squares, variance float64
	for _, h := range list { // in order: sums of floats depend on it
		share := float64(weights[h.addr]) / sum
		if share == 0 {
			continue
		}
		load := 100 * float64(have[h.addr]) / (users * share)
		n++
		b.min, b.max, b.mean = min(b.min, load), max(b.max, load), b.mean+load
		squares += (load - 100) * (load - 100)
		variance += 1e4 * (1 - share) / (users * share)
	}
	b.mean /= n
	b.deviation, b.chance = math.Sqrt(squares/n), math.Sqrt(variance/n)
	return b
}

// A movement is what a change made of users.
type movement struct {
	live     int // with live assignments: who moved
	must     int // whose host went
	stranded int // whose host went, and who did not move
	needless int // whose host is still there, and who moved

	hashed         int     // without assignments: whom the hash sends elsewhere
	least          float64 // what the weights make due
	hashedNeedless int     // moved between hosts that have no more and no less to take than before
}

// compareLive counts for a movement who moved with live assignments.
func (m *movement) compareLive(after []host, was, is placement) {
	up := map[netip.Addr]bool{}
	for _, h := range after {
		up[h.addr] = h.health == proxy.Up && h.admin != proxy.AdminDown
	}
	for i := range was {
		moved, must := was[i] != is[i], !up[was[i]]
		m.live += count(moved)
		m.must += count(must)
		m.stranded += count(must && !moved)
		m.needless += count(moved && !must)
	}
}

// compareHashed counts for a movement whom the hash sends elsewhere.
func (m *movement) compareHashed(before, after []host, was, is placement) {
	old, young := taking(before), taking(after)
	for i := range was {
		if was[i] == is[i] {
			continue
		}
		m.hashed++
		m.hashedNeedless += count(young[was[i]] >= old[was[i]] && young[is[i]] <= old[is[i]])
	}
	sumOld, sumYoung := total(old), total(young)
	for _, h := range after {
		gain := float64(young[h.addr])/sumYoung - float64(old[h.addr])/sumOld
		m.least += max(0, gain) * float64(len(was))
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
