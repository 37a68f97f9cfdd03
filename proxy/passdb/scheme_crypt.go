package passdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// The bounds of one login's cost, beside maxRounds.
const (
	maxBcryptCost   = 16
	maxArgon2Memory = 1 << 20 // KiB
	maxArgon2Passes = 100
	maxArgon2Lanes  = 64
)

// crypted is a hash that go-crypt compares.
type crypted struct {
	algorithm.Matcher
	work string
}

func (c *crypted) cost() string { return c.work }

func (c *crypted) verify(password string) (bool, error) { return c.MatchAdvanced(password) }

// newCrypted hands hash, whose form and cost have been checked, to go-crypt.
// Its errors quote the hash, so they are not passed on.
func newCrypted(decode func(string) (algorithm.Digest, error), hash, work string) (verifier, error) {
	d, err := decode(hash)
	if err != nil {
		return nil, errForm
	}
	return &crypted{d, work}, nil
}

// parseCrypt reads what crypt(3) takes, as far as it is supported.
func parseCrypt(raw string) (verifier, error) {
	switch {
	case strings.HasPrefix(raw, "$1$"):
		return parseMD5Crypt(raw)
	case strings.HasPrefix(raw, "$2"):
		return parseBcrypt(raw)
	case strings.HasPrefix(raw, "$5$"):
		return parseSHACrypt(raw, "$5$", 43)
	case strings.HasPrefix(raw, "$6$"):
		return parseSHACrypt(raw, "$6$", 86)
	case len(raw) == 13 && cryptText(raw):
		return nil, errors.New("DES hashes are not supported; set a new password, or write {PLAIN} before a plain one")
	}
	return nil, errors.New("neither $1$, $2a$, $2b$, $2y$, $5$ nor $6$; a plain password needs {PLAIN}")
}

// parseMD5Crypt reads $1$salt$hash.
func parseMD5Crypt(raw string) (verifier, error) {
	parts := strings.Split(raw, "$")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "1" || len(parts[2]) > 8 || len(parts[3]) != 22 || !cryptText(parts[3]) {
		return nil, errForm
	}
	return newCrypted(md5crypt.Decode, raw, "MD5-CRYPT")
}

// parseMD5 reads Dovecot's scheme MD5: MD5-CRYPT or PLAIN-MD5.
func parseMD5(raw string) (verifier, error) {
	if strings.HasPrefix(raw, "$1$") {
		return parseMD5Crypt(raw)
	}
	sum, err := plainMD5.decode("", raw)
	if err != nil {
		return nil, err
	}
	return plainMD5.parse(sum)
}

// parseSHACrypt reads prefix[rounds=N$]salt$hash
// (akkadia.org/drepper/SHA-crypt.txt).
func parseSHACrypt(raw, prefix string, hashLen int) (verifier, error) {
	parts := strings.Split(strings.TrimPrefix(raw, prefix), "$")
	rounds := 5000
	if text, ok := strings.CutPrefix(parts[0], "rounds="); ok {
		var err error
		if rounds, err = parseRounds(text, 1000); err != nil {
			return nil, err
		}
		parts = parts[1:]
	}
	if len(parts) != 2 || len(parts[0]) > 16 || len(parts[1]) != hashLen || !cryptText(parts[1]) {
		return nil, errForm
	}
	return newCrypted(shacrypt.Decode, raw, prefix+strconv.Itoa(rounds))
}

// parseBcrypt reads $2a$, $2b$ or $2y$, two digits of cost, 22 characters of
// salt and 31 of hash. $2x$ marks hashes of a program that mistook 8-bit
// characters; go-crypt would compare them as $2y$.
func parseBcrypt(raw string) (verifier, error) {
	if len(raw) != 60 || raw[3] != '$' || raw[6] != '$' || !cryptText(raw[7:]) {
		return nil, errForm
	}
	if v := raw[:3]; v != "$2a" && v != "$2b" && v != "$2y" {
		return nil, errors.New("of bcrypt only $2a$, $2b$ and $2y$ are supported")
	}
	cost, err := strconv.ParseUint(raw[4:6], 10, 8)
	if err != nil {
		return nil, errForm
	}
	if cost < 4 || cost > maxBcryptCost {
		return nil, fmt.Errorf("cost %d, expected 4 to %d", cost, maxBcryptCost)
	}
	return newCrypted(bcrypt.Decode, raw, "bcrypt/"+raw[4:6])
}

// parseArgon2 reads $argon2i$ or $argon2id$, then v=19$m=KiB,t=PASSES,p=LANES$
// salt$hash (RFC 9106; the form is the reference program's).
func parseArgon2(raw string) (verifier, error) {
	parts := strings.Split(raw, "$")
	if len(parts) != 6 || parts[0] != "" || (parts[1] != "argon2i" && parts[1] != "argon2id") {
		return nil, errForm
	}
	if parts[2] != "v=19" {
		return nil, errors.New("only version 19 (1.3) of Argon2 is supported")
	}
	limits := [...]struct {
		name string
		max  uint64
	}{{"m=", maxArgon2Memory}, {"t=", maxArgon2Passes}, {"p=", maxArgon2Lanes}}
	params := strings.Split(parts[3], ",")
	if len(params) != len(limits) {
		return nil, errForm
	}
	for i, l := range limits {
		text, ok := strings.CutPrefix(params[i], l.name)
		n, err := strconv.ParseUint(text, 10, 32)
		if !ok || err != nil {
			return nil, errForm
		}
		if n < 1 || n > l.max {
			return nil, fmt.Errorf("%s%d, expected 1 to %d", l.name, n, l.max)
		}
	}
	if len(parts[4]) > 256 || len(parts[5]) < 6 || len(parts[5]) > 256 {
		return nil, errForm
	}
	return newCrypted(argon2.Decode, raw, parts[1]+"/"+parts[3])
}

// cryptText reports whether s is of crypt's base64 alphabet.
func cryptText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '/':
		default:
			return false
		}
	}
	return true
}
