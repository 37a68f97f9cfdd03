// Package affinity keeps assignments: which backend host a user was taken to.
//
// It knows keys and host names, and nothing of requests, backends or wire
// formats.
package affinity

import (
	"context"
	"strings"
)

// A Key names an assignment. Tags are separate spaces, as in Dovecot's
// director; Name is the user, or what the configuration or the policy takes
// for it.
type Key struct {
	Tag  string
	Name string
}

// A Store keeps assignments. All methods are safe for concurrent use. An error
// means that the store could not answer; it is a temporary failure.
type Store interface {
	// Lookup returns the host of the key's live assignment, "" for none.
	Lookup(ctx context.Context, key Key) (host string, err error)
	// Claim records host for key, if the live assignment still is seen ("" for
	// none), and returns host. Did it change meanwhile, it records nothing and
	// returns the winner's host. The store may decline to record a new key when
	// it is full; it then returns host.
	Claim(ctx context.Context, key Key, seen, host string) (winner string, err error)
	// Refresh prolongs what lives, in every tag, and creates nothing.
	Refresh(ctx context.Context, name string) error
	// Len returns the number of assignments, expired ones that were not yet
	// swept included.
	Len() int
	// Assigned returns how many of them are on a host, counted likewise.
	Assigned(host string) int
}

// A Scope is the part of a user name that the key is made of (affinity.key).
type Scope string

// The scopes.
const (
	ByUser   Scope = "user"
	ByLocal  Scope = "local"  // before the last @
	ByDomain Scope = "domain" // after the last @; a name without one is its own
)

// KeyName makes the name of a key from a user name: in lower case, cut at the
// first master-user separator, if there is one, then scoped.
func KeyName(user, separator string, scope Scope) string {
	if separator != "" {
		if i := strings.Index(user, separator); i > 0 {
			user = user[:i]
		}
	}
	user = lower(user)
	at := strings.LastIndexByte(user, '@')
	if at <= 0 || at == len(user)-1 {
		return user
	}
	switch scope {
	case ByLocal:
		return user[:at]
	case ByDomain:
		return user[at+1:]
	}
	return user
}

// lower folds ASCII letters only, as Dovecot's %L does: folding by Unicode
// would turn names of different invalid UTF-8 into the same one.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
