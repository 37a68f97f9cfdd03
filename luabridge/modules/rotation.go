package modules

import (
	"strings"
	"sync"

	"usher/proxy"
)

// What a Rotation remembers at most.
const (
	maxRotations = 256  // a script and a protocol each
	maxTurns     = 4096 // hosts of one
)

// A Rotation is whose turn usher.round_robin has it: one a process, which reloads
// leave alone. The zero value is ready.
type Rotation struct {
	mu    sync.Mutex
	turns map[rotationKey]map[string]int // by the host's canonical name
}

type rotationKey struct{ script, protocol string }

// next returns whose turn it is among entries, nil when all have the weight 0.
// Each turn every host gains its weight, and the one that is ahead pays with the
// sum of all: so turns are in proportion, and a heavy host's are spread out.
// With dry the turn is not taken.
func (r *Rotation) next(script, protocol string, entries []*proxy.Entry, dry bool) *proxy.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := rotationKey{script, protocol}
	turns := r.turns[key]
	var best *proxy.Entry
	total, top := 0, 0
	for _, e := range entries {
		h := e.Machine()
		if h.Weight <= 0 {
			continue
		}
		total += h.Weight
		if ahead := turns[h.ID] + h.Weight; best == nil || ahead > top {
			best, top = e, ahead
		}
	}
	if best == nil || dry {
		return best
	}
	if turns == nil {
		turns = r.begin(key)
	}
	if len(turns) > maxTurns {
		clear(turns)
	}
	for _, e := range entries {
		if h := e.Machine(); h.Weight > 0 {
			turns[h.ID] += h.Weight
		}
	}
	turns[best.Machine().ID] -= total
	return best
}

// begin makes room for another rotation: services' names come from clients.
func (r *Rotation) begin(key rotationKey) map[string]int {
	if r.turns == nil {
		r.turns = map[rotationKey]map[string]int{}
	}
	for old := range r.turns {
		if len(r.turns) < maxRotations {
			break
		}
		delete(r.turns, old)
	}
	turns := map[string]int{}
	r.turns[rotationKey{strings.Clone(key.script), strings.Clone(key.protocol)}] = turns
	return turns
}
