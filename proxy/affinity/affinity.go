// Package affinity keeps assignments: which backend host a user was taken to.
//
// It knows keys and host names, and nothing of requests, backends or wire
// formats.
package affinity

import (
	"context"
	"strings"
	"time"
)

// A Key names an assignment. Tags are separate spaces, as in Dovecot's
// director; Name is the user, or what the configuration or the policy takes
// for it.
type Key struct {
	Tag  string
	Name string
}

// An Assignment is one that lives.
type Assignment struct {
	Key     Key
	Host    string // canonical
	Expires time.Time
	Users   []string // of sessions, where they are not Key.Name
}

// MaxUsers bounds the user names that are remembered of one key.
const MaxUsers = 1000

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
	// Remember notes that a session of the live assignment has that user name,
	// which is not Key.Name: who ends the sessions of a key needs it. It is
	// forgotten with the assignment; of one key MaxUsers are kept.
	Remember(ctx context.Context, key Key, user string) error
	// Refresh prolongs what lives, in every tag, and creates nothing.
	Refresh(ctx context.Context, name string) error
	// Get returns the live assignment; one without a host: there is none.
	Get(ctx context.Context, key Key) (Assignment, error)
	// Set records host for key, whatever stands: an operator's move.
	Set(ctx context.Context, key Key, host string) error
	// Forget drops the key's assignment to host, if there is one.
	Forget(ctx context.Context, key Key, host string) error
	// Each calls yield for the live assignments of a host, "" for all, in no order,
	// until it returns false. What changes meanwhile may be missed.
	Each(ctx context.Context, host string, yield func(Assignment) bool) error
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
