package passdb

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"usher/proxy"
)

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// digest is an unsalted digest of the password.
type digest struct {
	want  []byte
	match func(want []byte, password string) bool
}

func (*digest) cost() string { return "" }

func (d *digest) verify(password string) (bool, error) { return d.match(d.want, password), nil }

func digestParser(match func([]byte, string) bool) func(string) (verifier, error) {
	return func(raw string) (verifier, error) { return &digest{[]byte(raw), match}, nil }
}

func matchMD5(want []byte, password string) bool {
	sum := md5.Sum([]byte(password))
	return equal(want, sum[:])
}

func matchSHA1(want []byte, password string) bool {
	sum := sha1.Sum([]byte(password))
	return equal(want, sum[:])
}

func matchSHA256(want []byte, password string) bool {
	sum := sha256.Sum256([]byte(password))
	return equal(want, sum[:])
}

func matchSHA512(want []byte, password string) bool {
	sum := sha512.Sum512([]byte(password))
	return equal(want, sum[:])
}

// parsePlain keeps a digest of the password too: then the comparison does not
// tell its length.
func parsePlain(raw string) (verifier, error) {
	sum := sha256.Sum256([]byte(raw))
	return &plain{digest{sum[:], matchSHA256}, proxy.NewSecret(strings.Clone(raw))}, nil
}

// salted is digest(password + salt), stored as digest and salt.
type salted struct {
	want, salt []byte
	hash       func() hash.Hash
}

func saltedParser(h func() hash.Hash) func(string) (verifier, error) {
	size := h().Size()
	return func(raw string) (verifier, error) {
		if len(raw) <= size {
			return nil, fmt.Errorf("%d bytes, expected %d and a salt", len(raw), size)
		}
		return &salted{want: []byte(raw[:size]), salt: []byte(raw[size:]), hash: h}, nil
	}
}

func (*salted) cost() string { return "" }

func (s *salted) verify(password string) (bool, error) {
	h := s.hash()
	h.Write([]byte(password))
	h.Write(s.salt)
	return equal(s.want, h.Sum(nil)), nil
}

// cram holds the two MD5 states that HMAC-MD5 (RFC 2104) has after its outer
// and its inner pad: all that CRAM-MD5 needs of a password.
type cram struct{ want [2 * md5.Size]byte }

func parseCRAM(raw string) (verifier, error) {
	return &cram{[2 * md5.Size]byte([]byte(raw))}, nil
}

func (*cram) cost() string { return "" }

func (c *cram) verify(password string) (bool, error) {
	key := []byte(password)
	if len(key) > md5.BlockSize {
		sum := md5.Sum(key)
		key = sum[:]
	}
	outer, err := md5State(key, 0x5c)
	if err != nil {
		return false, err
	}
	inner, err := md5State(key, 0x36)
	if err != nil {
		return false, err
	}
	return equal(c.want[:], append(outer, inner...)), nil
}

// hmacMD5 implements keyed.
func (c *cram) hmacMD5(text string) ([]byte, error) {
	inner, err := md5From(c.want[md5.Size:], []byte(text))
	if err != nil {
		return nil, err
	}
	return md5From(c.want[:md5.Size], inner)
}

// md5Magic begins the binary form of crypto/md5, the only one in which it shows
// its state: four words, big-endian, follow.
const md5Magic = "md5\x01"

// md5State returns MD5's four words, little-endian, after one block of key xor
// pad.
func md5State(key []byte, pad byte) ([]byte, error) {
	var block [md5.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	_, b, err := md5Block(block[:])
	if err != nil {
		return nil, err
	}
	return swapped(b[len(md5Magic):][:md5.Size]), nil
}

// md5From returns the MD5 of one block that leads to state, and of data.
func md5From(state, data []byte) ([]byte, error) {
	h, b, err := md5Block(make([]byte, md5.BlockSize))
	if err != nil {
		return nil, err
	}
	copy(b[len(md5Magic):], swapped(state))
	m, ok := h.(interface{ UnmarshalBinary([]byte) error })
	if !ok {
		return nil, errors.New("crypto/md5 takes no state")
	}
	if err := m.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("crypto/md5: %w", err)
	}
	h.Write(data)
	return h.Sum(nil), nil
}

// md5Block returns an MD5 of one block, and its binary form.
func md5Block(block []byte) (hash.Hash, []byte, error) {
	h := md5.New()
	h.Write(block)
	m, ok := h.(interface{ MarshalBinary() ([]byte, error) })
	if !ok {
		return nil, nil, errors.New("crypto/md5 does not show its state")
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, nil, fmt.Errorf("crypto/md5: %w", err)
	}
	if len(b) < len(md5Magic)+md5.Size || string(b[:len(md5Magic)]) != md5Magic {
		return nil, nil, errors.New("crypto/md5 shows its state in an unknown form")
	}
	return h, b, nil
}

// swapped reverses the bytes of each of MD5's four words.
func swapped(words []byte) []byte {
	out := make([]byte, 0, 2*md5.Size) // room for a second state
	for i := 0; i < md5.Size; i += 4 {
		out = binary.LittleEndian.AppendUint32(out, binary.BigEndian.Uint32(words[i:]))
	}
	return out
}
