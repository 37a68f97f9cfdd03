package affinity

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// HashHost and HashKey prepare the two sides of Score.
func HashHost(host string) uint64 { return xxhash.Sum64String(host) }

// HashKey hashes an assignment key's name.
func HashKey(name string) uint64 { return xxhash.Sum64String(name) }

// Score is a host's score for a key in weighted rendezvous hashing: the host
// with the highest score takes the key, so that a host added, removed or
// reweighted moves only the keys that must move. A weight of 0 or less scores
// negative infinity: such a host takes nobody. (C. Schindelhauer, G. Schomaker,
// "Weighted Distributed Hash Tables", 2005.)
func Score(key, host uint64, weight int) float64 {
	if weight <= 0 {
		return math.Inf(-1)
	}
	// splitmix64's finalizer: every bit of both hashes reaches every bit.
	x := key ^ (host * 0x9e3779b97f4a7c15)
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	// 53 bits, shifted by a half: never 0 nor 1.
	u := (float64(x>>11) + 0.5) / (1 << 53)
	return float64(weight) / -math.Log(u)
}
