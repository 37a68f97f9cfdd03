package proxy

import "unsafe"

// Redacted is what a Secret shows wherever it is printed.
const Redacted = "[redacted]"

// A Secret is a password, token or key. It prints as Redacted in fmt (every
// verb), JSON, YAML, text encodings and zap, also when it lies in an unexported
// field, where fmt does not call methods: hence the pointer, which fmt shows as
// an address, instead of a string, which it would show.
//
// The zero Secret is empty.
type Secret struct {
	p *byte
	n int
}

// NewSecret wraps s. It does not copy.
func NewSecret(s string) Secret { return Secret{unsafe.StringData(s), len(s)} }

// Reveal returns the plain text. Call it only where the text goes onto a wire
// or into a comparison.
func (s Secret) Reveal() string { return unsafe.String(s.p, s.n) }

// IsEmpty reports whether there is no secret, or an empty one.
func (s Secret) IsEmpty() bool { return s.n == 0 }

// String returns Redacted, or "" for an empty Secret.
func (s Secret) String() string {
	if s.n == 0 {
		return ""
	}
	return Redacted
}

// GoString implements fmt.GoStringer for %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText implements encoding.TextMarshaler: JSON, YAML and zap go through it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// MarshalYAML implements the Marshaler of YAML v3.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
