package proxy

import (
	"fmt"
	"slices"
	"strings"
)

// An Attr is one field of a result: `name=value`, or a bare `name`.
type Attr struct {
	Name  string
	Value string
	Bare  bool
}

// A Change is what a policy did to one field of the result. Later changes of
// the same name replace earlier ones.
type Change struct {
	Attr
	Remove bool
	List   bool // a list of several values, which no wire format can carry
}

// ownFields are written by usher alone, whatever a policy sets.
var ownFields = []string{"user", "pass", "proxy", "host", "hostip", "port", "nologin", "proxy_refresh"}

// identityFields change who is logged in at the backend.
var identityFields = []string{"master", "destuser"}

// settle folds changes into one per name, in order of first appearance, and
// leaves out those that a policy may not make. A name or value that no wire
// format can carry is an error.
func settle(changes []Change, allowIdentity bool, hostAttrs []string) ([]Change, error) {
	var out []Change
	for _, c := range changes {
		if !MaySet(c.Name, allowIdentity) || slices.Contains(hostAttrs, c.Name) {
			continue
		}
		if i := slices.IndexFunc(out, func(o Change) bool { return o.Name == c.Name }); i >= 0 {
			out[i] = c
			continue
		}
		out = append(out, c)
	}
	for _, c := range out {
		switch {
		case !validAttrName(c.Name):
			return nil, fmt.Errorf("attribute name %.80q: want 1-64 bytes without spaces, control bytes and =", c.Name)
		case c.List && !c.Remove:
			return nil, fmt.Errorf("attribute %q is a list, which cannot be sent", c.Name)
		case len(c.Value) > maxAttrValue:
			return nil, fmt.Errorf("attribute %q has %d bytes, at most %d can be sent", c.Name, len(c.Value), maxAttrValue)
		}
	}
	return out, nil
}

// MaySet reports whether a policy or a password driver may set a field of that
// name.
func MaySet(name string, allowIdentity bool) bool {
	return !slices.Contains(ownFields, name) && (allowIdentity || !slices.Contains(identityFields, name))
}

// ValidAttr reports whether a wire format can carry the field.
func ValidAttr(a Attr) bool { return validAttrName(a.Name) && len(a.Value) <= maxAttrValue }

// maxAttrValue leaves room in a line of 16384 bytes.
const maxAttrValue = 4096

// validAttrName: what may stand before the `=` of a Dovecot field.
func validAttrName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '=' || r == 0x7f
	})
}
