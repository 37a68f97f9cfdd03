package passdb

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// maxRounds bounds what one login may cost, whatever a file says: 10 million
// rounds are some seconds.
const maxRounds = 10_000_000

// parseRounds reads a count between low and maxRounds.
func parseRounds(s string, low int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errForm // err would quote a piece of the hash
	}
	if n < low || n > maxRounds {
		return 0, fmt.Errorf("%d rounds, expected %d to %d", n, low, maxRounds)
	}
	return n, nil
}

// pbkdf is Dovecot's PBKDF2 (RFC 8018) with HMAC-SHA1: $1$salt$rounds$hex. The
// salt is the text itself.
type pbkdf struct {
	salt   []byte
	rounds int
	want   []byte
}

func parsePBKDF2(raw string) (verifier, error) {
	rest, ok := strings.CutPrefix(raw, "$1$")
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 {
		return nil, errForm
	}
	rounds, err := parseRounds(parts[1], 1)
	if err != nil {
		return nil, err
	}
	want, err := hex.DecodeString(parts[2])
	if err != nil || len(want) != sha1.Size {
		return nil, errForm
	}
	return &pbkdf{[]byte(parts[0]), rounds, want}, nil
}

func (p *pbkdf) cost() string { return "PBKDF2/" + strconv.Itoa(p.rounds) }

func (p *pbkdf) verify(password string) (bool, error) {
	got, err := pbkdf2.Key(sha1.New, password, p.salt, p.rounds, len(p.want))
	if err != nil {
		return false, fmt.Errorf("PBKDF2: %w", err)
	}
	return equal(p.want, got), nil
}

// scram is what a SCRAM server keeps (RFC 5802 section 3), as Dovecot writes
// it: rounds,salt,StoredKey,ServerKey. A password is compared by StoredKey. As
// in Dovecot, it is not put through SASLprep.
type scram struct {
	name   string
	hash   func() hash.Hash
	rounds int
	salt   []byte
	want   []byte
}

func scramParser(name string, h func() hash.Hash) func(string) (verifier, error) {
	size := h().Size()
	return func(raw string) (verifier, error) {
		parts := strings.Split(raw, ",")
		if len(parts) != 4 {
			return nil, errForm
		}
		rounds, err := parseRounds(parts[0], 4096)
		if err != nil {
			return nil, err
		}
		salt, err := base64.StdEncoding.DecodeString(parts[1])
		if err != nil {
			return nil, errors.New("the salt is not base64")
		}
		stored, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil || len(stored) != size {
			return nil, errors.New("StoredKey is not a digest in base64")
		}
		if server, err := base64.StdEncoding.DecodeString(parts[3]); err != nil || len(server) != size {
			return nil, errors.New("ServerKey is not a digest in base64")
		}
		return &scram{name, h, rounds, salt, stored}, nil
	}
}

func (s *scram) cost() string { return s.name + "/" + strconv.Itoa(s.rounds) }

func (s *scram) verify(password string) (bool, error) {
	// Hi() is PBKDF2 with HMAC (RFC 5802 section 2.2).
	key, err := pbkdf2.Key(s.hash, password, s.salt, s.rounds, len(s.want))
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.name, err)
	}
	mac := hmac.New(s.hash, key)
	mac.Write([]byte("Client Key"))
	stored := s.hash()
	stored.Write(mac.Sum(nil))
	return equal(s.want, stored.Sum(nil)), nil
}
