package dovecot

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// A DirectorAdmin does what `doveadm director` orders and asks (Dovecot 2.3,
// doveadm-director.c). Hosts are named by DirectorHost.Name: the protocol's
// addresses are translated before. All methods are safe for concurrent use.
//
// An order's error is shown to who gave it: ErrNotFound and ErrTryAgain in the
// protocol's words, a Refusal in its own, and any other, which is logged as well,
// after `usher: `. The protocol has no word for a question that can't be answered:
// its connection is closed.
//
// ctx ends when usher does, not with the connection: a monitor hangs up as soon as
// it has said that a host is down.
type DirectorAdmin interface {
	// Hosts returns the hosts in any order, removed ones too.
	Hosts(ctx context.Context) ([]DirectorHost, error)
	// User says where a user is and would go; tag is that of the hosts to choose
	// from, "" for those without.
	User(ctx context.Context, user, tag string) (DirectorUser, error)
	// UserByHash is User by DirectorHash.
	UserByHash(ctx context.Context, hash uint32, tag string) (DirectorUser, error)
	// Users calls yield for each assignment that lives, of that host or, for "", of
	// all, in any order and tag, until yield returns false.
	Users(ctx context.Context, host string, yield func(hash uint32, expires time.Time, host string) bool) error

	// SetHost adds a host, whose name is its address then, or changes that which
	// is there; vhosts nil: 100 for a new one, else as it is; tag "": none for a
	// new one, else as it is. Errors: ErrTagFixed, ErrHostBusy.
	SetHost(ctx context.Context, host, tag string, vhosts *int) error
	// UpdateHost is SetHost for a host that is there.
	UpdateHost(ctx context.Context, host, tag string, vhosts int) error
	// HostUp and HostDown end and begin a maintenance. What is so already is no
	// error.
	HostUp(ctx context.Context, host string) error
	HostDown(ctx context.Context, host string) error
	// RemoveHost takes a host out, and its assignments with it.
	RemoveHost(ctx context.Context, host string) error

	// Flush moves the users of that host or, for "", of all, to where each would
	// go now, and returns when that is done; parallel at a time, or for 0 as many
	// as is usual.
	Flush(ctx context.Context, host string, parallel int) error
	// Forget drops the assignments to that host or, for "", to all. Sessions stay.
	Forget(ctx context.Context, host string) error
	// Move moves the user with that DirectorHash; of one who is not known yet the
	// order is kept. It does not wait for the move's end. ErrTryAgain: the user is
	// being moved.
	Move(ctx context.Context, hash uint32, host string) error
	// Kick ends a user's sessions. nowait: ErrTryAgain if too many others are being
	// kicked.
	Kick(ctx context.Context, user string, nowait bool) error
	// KickAlt ends the sessions whose passdb field has that value.
	KickAlt(ctx context.Context, field, value string) error

	// Ring returns the nodes that share the assignments, this one included.
	Ring(ctx context.Context) ([]DirectorNode, error)
}

// A DirectorHost is a host as the director has it.
type DirectorHost struct {
	Name  string
	Addrs []netip.Addr // any names it in a request, the first in an answer; none: Name does
	Tag   string
	// Vhosts is its weight, 0 to 1000.
	Vhosts  int
	Users   int // assignments
	Down    bool
	Changed time.Time // when it last went down or up; zero: never
	Removed bool      // by RemoveHost; the configuration has it
}

// A DirectorUser is where a user is and would go: names of hosts.
type DirectorUser struct {
	Host    string // "": not assigned
	Expires time.Time
	Hashed  string // without an assignment; "": no host is there
	Initial string // and without any order since the start
}

// A DirectorNode is a row of `doveadm director ring status`.
type DirectorNode struct {
	Addr   netip.AddrPort
	Type   string    // self, or what a node is to this one
	Failed time.Time // zero: never
	Status string    // in words: ring synced
}

// Errors of a DirectorAdmin.
var (
	ErrNotFound       = errors.New("no such host")
	ErrTryAgain       = errors.New("try again later")
	ErrTagFixed error = Refusal("host tag can't be changed")
	ErrHostBusy error = Refusal("host is already being updated - try again later")
)

// A Refusal is why an order is not carried out, in words for who gave it.
type Refusal string

// Error returns the words.
func (r Refusal) Error() string { return string(r) }

// NewDirectorAdmin returns a Server of the protocol between `doveadm director` and
// the director's socket director-admin (Dovecot 2.3, director/doveadm-connection.c).
// Of Options it takes Director, AllowFrom, Grace and Log.
func NewDirectorAdmin(opt Options) (*Server, error) {
	if opt.Director == nil {
		return nil, errors.New("dovecot: no director to give orders to")
	}
	s := &Server{opt: opt, log: named(opt.Log), work: newWorkers()}
	s.serve = s.directorAdmin
	return s, nil
}
