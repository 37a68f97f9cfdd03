package moves

import (
	"context"
	"errors"
)

// A Session is one that lives at a Dovecot.
type Session struct {
	User, Service string // as Dovecot names them: imap, pop3, …
	RemoteIP      string // of the mail client; "": none
	Host          string // the IP address that it is proxied to, as netip writes it; "": unknown, or not proxied
	At            string // the Kicker's name
}

// A Role is what a Dovecot is to a session.
type Role string

// The roles.
const (
	Proxy   Role = "proxy"   // sessions are proxied there
	Backend Role = "backend" // sessions end there, and mail is there
)

// MaxSessions is how many a Kicker lists at most.
const MaxSessions = 1_000_000

// ErrAgain is wrapped by errors of a Kicker that may be gone at the next try. What
// could be done was done.
var ErrAgain = errors.New("another try may do")

// A Kicker lists and ends sessions at one Dovecot. Its methods may be called by
// many goroutines at once; their errors name it.
type Kicker interface {
	// Name is for people. It has no secret.
	Name() string
	Role() Role
	// Sessions returns the sessions that these users have, exact names; none
	// given: all. More than MaxSessions are an error.
	Sessions(ctx context.Context, users []string) ([]Session, error)
	// Kick asks to end the sessions of these users, exact names, and of nobody
	// else: where it can't be sure of that it is an error. Only Sessions shows
	// whether they are gone. host, an IP address, means only sessions that are
	// proxied to it, where the server can tell; "": any.
	Kick(ctx context.Context, users []string, host string) error
}

// A Doubter is a Kicker that may know why sessions outlive kicks.
type Doubter interface {
	// Doubt returns words for an operator, or "". Ask after a Kick whose sessions
	// are still there.
	Doubt() string
}
