package passdb

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A verifier compares passwords with one stored form. It is immutable.
type verifier interface {
	// verify reports whether password is the one. An error is ours, never the
	// client's.
	verify(password string) (bool, error)
	// cost names the work of verify: equal costs, equal work. It is empty for
	// what is too quick to queue for Workers.
	cost() string
}

// An encoding is how the bytes of a stored form are written.
type encoding uint8

const (
	asIs encoding = iota
	inHex
	inBase64
)

// A scheme reads stored forms, by Dovecot's rules (src/auth/password-scheme.c).
type scheme struct {
	encoding encoding // where the name has no suffix
	size     int      // of the decoded form; 0: the parser decides
	parse    func(raw string) (verifier, error)
}

var plainMD5 = scheme{inHex, md5.Size, digestParser(matchMD5)}

// schemes are keyed by upper-case name. Dovecot compares names without case.
// Not among them: DES-CRYPT (no DES here), OTP (its form changes with every
// login), PLAIN-MD4, PLAIN-TRUNC and DIGEST-MD5 (weak, and out of use).
var schemes = map[string]scheme{
	"PLAIN":     {parse: parsePlain},
	"CLEAR":     {parse: parsePlain},
	"CLEARTEXT": {parse: parsePlain},

	"PLAIN-MD5": plainMD5,
	"LDAP-MD5":  {inBase64, md5.Size, digestParser(matchMD5)},
	"SHA":       {inBase64, sha1.Size, digestParser(matchSHA1)},
	"SHA1":      {inBase64, sha1.Size, digestParser(matchSHA1)},
	"SHA256":    {inBase64, sha256.Size, digestParser(matchSHA256)},
	"SHA512":    {inBase64, sha512.Size, digestParser(matchSHA512)},
	"SMD5":      {inBase64, 0, saltedParser(md5.New)},
	"SSHA":      {inBase64, 0, saltedParser(sha1.New)},
	"SSHA256":   {inBase64, 0, saltedParser(sha256.New)},
	"SSHA512":   {inBase64, 0, saltedParser(sha512.New)},
	"CRAM-MD5":  {inHex, 2 * md5.Size, parseCRAM},
	"HMAC-MD5":  {inHex, 2 * md5.Size, parseCRAM},

	"CRYPT":        {parse: parseCrypt},
	"SHA256-CRYPT": {parse: parseCrypt}, // Dovecot reads these three alike
	"SHA512-CRYPT": {parse: parseCrypt},
	"MD5-CRYPT":    {parse: parseMD5Crypt},
	"MD5":          {parse: parseMD5},
	"BLF-CRYPT":    {parse: parseBcrypt},
	"ARGON2I":      {parse: parseArgon2}, // libsodium reads both alike
	"ARGON2ID":     {parse: parseArgon2},

	"PBKDF2":        {parse: parsePBKDF2},
	"SCRAM-SHA-1":   {parse: scramParser("SCRAM-SHA-1", sha1.New)},
	"SCRAM-SHA-256": {parse: scramParser("SCRAM-SHA-256", sha256.New)},
}

// defaultScheme is a passwd-file's for passwords without {SCHEME}.
const defaultScheme = "CRYPT"

// parsePassword reads the password field of a passwd-file. A nil verifier
// without an error is a password that nobody has: empty, or locked. Errors name
// the scheme and never the rest of the field.
func parsePassword(field string) (verifier, error) {
	name, stored := splitScheme(field)
	if stored == "" {
		return nil, nil
	}
	base, suffix, _ := strings.Cut(strings.ToUpper(name), ".")
	s, ok := schemes[base]
	if !ok {
		return nil, fmt.Errorf("scheme %s is not supported", printable(name))
	}
	if base == defaultScheme && suffix == "" && locked(stored) {
		return nil, nil
	}
	raw, err := s.decode(suffix, stored)
	if err != nil {
		return nil, fmt.Errorf("scheme %s: %w", printable(name), err)
	}
	if raw == "" {
		return nil, nil
	}
	v, err := s.parse(raw)
	if err != nil {
		return nil, fmt.Errorf("scheme %s: %w", printable(name), err)
	}
	return v, nil
}

// splitScheme cuts {SCHEME} off, by Dovecot's password_get_scheme; and reads
// libpam-pwdfile's password[type], by its passwd_file_add.
func splitScheme(field string) (name, stored string) {
	if n := len(field); n > 4 && field[0] != '{' && field[0] != '$' && field[n-1] == ']' && field[n-4] == '[' {
		stored = field[:n-4]
		switch field[n-3 : n-1] {
		case "34":
			return "PLAIN-MD5", stored
		case "56":
			return "DIGEST-MD5", stored
		}
		return defaultScheme, stored
	}
	// $1$salt$hash, and whatever may follow a further $.
	if parts := strings.SplitN(field, "$", 5); len(parts) >= 4 && parts[0] == "" && parts[1] == "1" {
		return "MD5-CRYPT", strings.Join(parts[:4], "$")
	}
	if rest, ok := strings.CutPrefix(field, "{"); ok {
		if name, stored, ok := strings.Cut(rest, "}"); ok {
			return name, stored
		}
	}
	return defaultScheme, field
}

// locked reports the forms by which /etc/passwd and /etc/shadow say that no
// password fits: a leading ! or *, or the x of a shadowed entry.
func locked(stored string) bool {
	return stored == "x" || stored[0] == '!' || stored[0] == '*'
}

var (
	errEncoding = errors.New("not in the scheme's encoding")
	errForm     = errors.New("not a hash of this scheme")
)

// decode turns the stored text into bytes. Without a suffix hex and base64 tell
// themselves apart by their length where the scheme's size is fixed.
func (s *scheme) decode(suffix, stored string) (string, error) {
	enc := s.encoding
	switch suffix {
	case "":
		if enc != asIs && s.size > 0 {
			enc = inBase64
			if len(stored) == 2*s.size {
				enc = inHex
			}
		}
	case "HEX":
		enc = inHex
	case "B64", "BASE64":
		enc = inBase64
	default:
		return "", errors.New("unknown encoding, expected .hex, .b64 or .base64")
	}
	raw := []byte(stored)
	var err error
	switch enc {
	case inHex:
		raw, err = hex.DecodeString(stored)
	case inBase64:
		raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(stored, "="))
	}
	if err != nil {
		return "", errEncoding // err would quote the hash
	}
	if s.size > 0 && len(raw) != s.size {
		return "", fmt.Errorf("%d bytes, expected %d", len(raw), s.size)
	}
	return string(raw), nil
}

// printable returns a scheme's name if it can be one. What stands between
// braces might as well be a password.
func printable(name string) string {
	if name == "" || len(name) > 24 || strings.Trim(strings.ToUpper(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
		return "in braces"
	}
	return name
}
