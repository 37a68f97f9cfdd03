package maps

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"regexp"
	"strings"
	"unsafe"
)

// What a file may have at most.
const (
	MaxFile    = 1 << 30 // bytes
	MaxKey     = 1024    // bytes
	MaxLine    = 64 << 10
	MaxRegexes = 1000
)

// A Table is the content of one file. Its keys are found without regard to the
// case of ASCII letters.
type Table struct {
	data []byte
	seed maphash.Seed
	// The index is a hash table with linear probing: where in data a key begins,
	// plus one (0: nothing), and eight more bits of its hash, which spare most
	// looks into data.
	slots []uint32
	marks []uint8

	suffixes bool // some key begins with @ or .
	v4       prefixLengths
	v6       prefixLengths
	regexes  []regex
	// regexSteps is how long all of them take for a byte of a key, as Cost counts.
	regexSteps int
	lines      int // with a key
	// Duplicates is how many lines have a key that was there before, and
	// FirstDuplicate the first one's number. The first line of a key counts.
	Duplicates, FirstDuplicate int
}

type regex struct {
	re *regexp.Regexp
	at uint32
}

// prefixLengths are those that occur, one bit each: 0 to 128.
type prefixLengths [3]uint64

func (p *prefixLengths) add(n int)      { p[n/64] |= 1 << (n % 64) }
func (p *prefixLengths) has(n int) bool { return p[n/64]&(1<<(n%64)) != 0 }
func (p *prefixLengths) count() (n int) {
	for _, word := range p {
		n += bits.OnesCount64(word)
	}
	return n
}

// Lines returns how many keys the table has.
func (t *Table) Lines() int { return t.lines }

// Size returns how many bytes of memory the table takes, but for its regular
// expressions.
func (t *Table) Size() int { return len(t.data) + 5*len(t.slots) }

// Cost says about how long a Get takes at most for a key of that many bytes, in
// units of ten nanoseconds.
func (t *Table) Cost(key int) int {
	key = min(key, MaxKey)
	return 10 + key/4 + 4*(t.v4.count()+t.v6.count()) + 10*len(t.regexes) + t.regexSteps*key
}

// A Hit is a line that was found.
type Hit struct {
	t  *Table
	at uint32
}

// Value returns the line's value. It is a part of the table: copy what is kept.
func (h Hit) Value() []byte { return h.t.value(h.at) }

// Line returns the line's number. It counts: ask only to show it.
func (h Hit) Line() int { return 1 + bytes.Count(h.t.data[:h.at], []byte{'\n'}) }

// Get finds the line for a key: the exact one, else the longest suffix; for an
// address the longest prefix; else the first regular expression.
func (t *Table) Get(key string) (Hit, bool) {
	if key == "" || len(key) > MaxKey {
		return Hit{}, false
	}
	at, ok := t.find(key)
	if !ok {
		for i := range t.regexes {
			if t.regexes[i].re.MatchString(key) {
				at, ok = t.regexes[i].at, true
				break
			}
		}
	}
	return Hit{t, at}, ok
}

func (t *Table) find(key string) (uint32, bool) {
	// What can't be an address is not parsed: the error would cost an allocation.
	if text, _, _ := strings.Cut(key, "%"); looksNumeric(text) {
		if addr, err := netip.ParseAddr(text); err == nil {
			return t.findAddr(addr.Unmap())
		}
	}
	var room [MaxKey]byte
	low := room[:len(key)]
	at := -1
	for i := range len(key) {
		low[i] = lower(key[i])
		if low[i] == '@' {
			at = i
		}
	}
	// What begins like a suffix is no name: an exact look-up would find the suffix.
	if low[0] != '@' && low[0] != '.' && low[0] != '/' {
		if off, ok := t.text(low); ok {
			return off, true
		}
	}
	if !t.suffixes {
		return 0, false
	}
	if at >= 0 {
		if off, ok := t.text(low[at:]); ok {
			return off, true
		}
	}
	for i := at + 2; i < len(low); i++ { // a subdomain has a name before the dot
		if low[i] == '.' {
			if off, ok := t.text(low[i:]); ok {
				return off, true
			}
		}
	}
	return 0, false
}

func (t *Table) findAddr(addr netip.Addr) (uint32, bool) {
	lengths := &t.v6
	if addr.Is4() {
		lengths = &t.v4
	}
	for n := addr.BitLen(); n >= 0; n-- {
		if !lengths.has(n) {
			continue
		}
		p, err := addr.Prefix(n)
		if err != nil {
			return 0, false
		}
		if off, ok := t.prefix(p); ok {
			return off, true
		}
	}
	return 0, false
}

// text finds a key in lower case.
func (t *Table) text(low []byte) (uint32, bool) {
	slot, found := t.probe(maphash.Bytes(t.seed, low), func(at uint32) bool { return t.isText(at, low) })
	return t.slots[slot] - 1, found
}

func (t *Table) isText(at uint32, low []byte) bool {
	if len(t.data)-int(at) < len(low) {
		return false
	}
	rest := t.data[at:]
	for i, c := range low {
		if lower(rest[i]) != c {
			return false
		}
	}
	return len(rest) == len(low) || endsKey(rest[len(low)])
}

// prefix finds a masked prefix.
func (t *Table) prefix(p netip.Prefix) (uint32, bool) {
	slot, found := t.probe(t.hashPrefix(p), func(at uint32) bool {
		q, ok, _ := parsePrefix(t.key(at))
		return ok && q == p
	})
	return t.slots[slot] - 1, found
}

// hashPrefix hashes what no text is: it begins with a zero byte.
func (t *Table) hashPrefix(p netip.Prefix) uint64 {
	var b [18]byte
	a := p.Addr().As16()
	copy(b[2:], a[:])
	b[1] = uint8(p.Bits())
	if p.Addr().Is4() {
		b[1] |= 0x80
	}
	return maphash.Bytes(t.seed, b[:])
}

// probe returns the slot of a key, or the empty one where it would be.
func (t *Table) probe(hash uint64, is func(at uint32) bool) (slot int, found bool) {
	hi, _ := bits.Mul64(hash, uint64(len(t.slots)))
	slot, mark := int(hi), uint8(hash)
	for t.slots[slot] != 0 {
		if t.marks[slot] == mark && is(t.slots[slot]-1) {
			return slot, true
		}
		if slot++; slot == len(t.slots) {
			slot = 0
		}
	}
	return slot, false
}

// key is the key that begins at an offset; of regular expressions it is nonsense.
func (t *Table) key(at uint32) string {
	rest := t.data[at:]
	n := 0
	for n < len(rest) && !endsKey(rest[n]) {
		n++
	}
	return view(rest[:n])
}

func (t *Table) value(at uint32) []byte {
	rest := t.data[at:]
	n := 0
	if rest[0] == '/' {
		n, _ = regexEnd(rest)
	}
	for n < len(rest) && !endsKey(rest[n]) {
		n++
	}
	end := n
	for end < len(rest) && rest[end] != '\n' {
		end++
	}
	return trim(rest[n:end])
}

func endsKey(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// view is a text that shares the memory of b, which nobody changes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
