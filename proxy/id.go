package proxy

import (
	"math/rand/v2"
	"time"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID returns a ULID (github.com/ulid/spec): 48 bits of milliseconds and 80
// random bits in 26 characters of Crockford's base 32.
func NewID(now time.Time) string {
	var b [26]byte
	ms := uint64(now.UnixMilli())
	for i := 9; i >= 0; i-- {
		b[i] = crockford[ms&31]
		ms >>= 5
	}
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := 10; i < 18; i++ {
		b[i] = crockford[hi&31]
		hi >>= 5
	}
	for i := 18; i < 26; i++ {
		b[i] = crockford[lo&31]
		lo >>= 5
	}
	return string(b[:])
}
