package maps

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Parse makes a table of a file's content, which it keeps. name is for errors,
// which read NAME:LINE: what is wrong.
//
// A line is a key and a value, parted by blanks; without a value that is "". Blank
// lines and those that begin with # are none. Of lines with the same key the
// first counts. A key is
//
//	alice@example.org   an exact one
//	@example.org        any user of the domain
//	.example.org        any host, or any user, of a subdomain
//	192.0.2.0/24        an address of that network; or one address
//	/regex/             RE2, anywhere in the key; a / in it is \/
func Parse(name string, data []byte) (*Table, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d", name, len(data), MaxFile)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	most := bytes.Count(data, []byte{'\n'}) + 1
	t := &Table{data: data, seed: maphash.MakeSeed()}
	t.resize(most + most/3 + 1)
	number := 0
	for at := 0; at < len(data); {
		number++
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			end = len(data)
		} else {
			end += at
		}
		if err := t.line(at, end, number); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		at = end + 1
	}
	// A file that is mostly comments needs no index for them.
	if t.lines < most/4*3 {
		t.shrink()
	}
	return t, nil
}

func (t *Table) resize(slots int) {
	t.slots, t.marks = make([]uint32, slots), make([]uint8, slots)
}

// shrink makes the index as small as the lines need it.
func (t *Table) shrink() {
	old := t.slots
	t.resize(t.lines + t.lines/3 + 1)
	for _, off := range old {
		if off != 0 {
			t.insert(off - 1)
		}
	}
}

// line reads the line that is data[at:end].
func (t *Table) line(at, end, number int) error {
	for at < end && blank(t.data[at]) {
		at++
	}
	line := t.data[at:end]
	if len(line) == 0 || line[0] == '#' {
		return nil
	}
	if len(line) > MaxLine {
		return fmt.Errorf("the line has %d bytes, at most %d", len(line), MaxLine)
	}
	for i, c := range line {
		if (c < 0x20 && c != '\t' || c == 0x7f) && (c != '\r' || i != len(line)-1) {
			return fmt.Errorf("control byte 0x%02x", c)
		}
	}
	if line[0] == '/' {
		return t.regex(at, line)
	}
	key := t.key(uint32(at))
	if len(key) > MaxKey {
		return fmt.Errorf("the key has %d bytes, at most %d", len(key), MaxKey)
	}
	p, isPrefix, err := parsePrefix(key)
	switch {
	case err != nil:
		return err
	case isPrefix && p.Addr().Is4():
		t.v4.add(p.Bits())
	case isPrefix:
		t.v6.add(p.Bits())
	case key == "@" || key == ".":
		return fmt.Errorf("expected a domain after %s", key)
	case key[0] == '@' && strings.IndexByte(key[1:], '@') >= 0:
		return fmt.Errorf("expected a domain after @, not %q", key[1:])
	case key[0] == '@' || key[0] == '.':
		t.suffixes = true
	}
	if !t.insert(uint32(at)) {
		if t.Duplicates++; t.Duplicates == 1 {
			t.FirstDuplicate = number
		}
		return nil
	}
	t.lines++
	return nil
}

// insert puts the key at an offset into the index, unless it is there.
func (t *Table) insert(at uint32) bool {
	key := t.key(at)
	var hash uint64
	var is func(uint32) bool
	var room [MaxKey]byte
	if p, ok, _ := parsePrefix(key); ok {
		hash = t.hashPrefix(p)
		is = func(other uint32) bool { q, ok, _ := parsePrefix(t.key(other)); return ok && p == q }
	} else {
		low := room[:len(key)]
		for i := range len(key) {
			low[i] = lower(key[i])
		}
		hash = maphash.Bytes(t.seed, low)
		is = func(other uint32) bool { return t.isText(other, low) }
	}
	slot, found := t.probe(hash, is)
	if !found {
		t.slots[slot], t.marks[slot] = at+1, uint8(hash)
	}
	return !found
}

func (t *Table) regex(at int, line []byte) error {
	end, ok := regexEnd(line)
	if !ok || end < len(line) && !endsKey(line[end]) {
		return fmt.Errorf("expected /regex/ and a blank; a / within it is \\/")
	}
	if end > MaxKey {
		return fmt.Errorf("the regular expression has %d bytes, at most %d", end, MaxKey)
	}
	if len(t.regexes) == MaxRegexes {
		return fmt.Errorf("over %d regular expressions", MaxRegexes)
	}
	text := strings.ReplaceAll(string(line[1:end-1]), `\/`, `/`)
	re, err := regexp.Compile("(?i)" + text)
	if err != nil {
		return fmt.Errorf("regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	t.regexes = append(t.regexes, regex{re, uint32(at)})
	t.regexSteps += max(4, instructions("(?i)"+text)/4)
	t.lines++
	return nil
}

// instructions is how many an expression has when its repetitions are written out:
// the matcher may have as many states at once.
func instructions(text string) int {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(p.Inst)
}

// regexEnd is where /regex/ ends, behind the second /.
func regexEnd(line []byte) (int, bool) {
	for i := 1; i < len(line) && line[i] != '\n'; i++ {
		switch line[i] {
		case '\\':
			i++
		case '/':
			return i + 1, true
		}
	}
	return 0, false
}

// parsePrefix reads an address or a network. What looks like none is no error,
// and no prefix.
func parsePrefix(key string) (p netip.Prefix, ok bool, err error) {
	if len(key) > 49 || !looksNumeric(key) {
		return p, false, nil
	}
	address, _, network := strings.Cut(key, "/")
	a, err := netip.ParseAddr(address)
	if err != nil {
		if network {
			return p, false, fmt.Errorf("%s is no network: expected an address before the /", key)
		}
		return p, false, nil
	}
	if !network {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true, nil
	}
	if p, err = netip.ParsePrefix(key); err != nil {
		return netip.Prefix{}, false, fmt.Errorf("%s is no network: its length must be 0 to %d", key, a.BitLen())
	}
	if a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, false, fmt.Errorf("%s is no network: expected %s", key, m)
	}
	return p, true, nil
}

// looksNumeric: digits of addresses alone. It is asked of every key, and most say
// no at their first letter.
func looksNumeric(key string) bool {
	separated := false
	for i := range len(key) {
		c := key[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		case c == '.' && i > 0, c == ':':
			separated = true
		case c == '/':
			return separated
		default:
			return false
		}
	}
	return separated
}
