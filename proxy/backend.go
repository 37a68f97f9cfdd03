package proxy

import (
	"context"
	"net/netip"
	"strconv"
	"time"
)

// A Server is one configured backend: an immutable entry of the inventory. Its
// pointer is its identity for as long as the configuration stands.
type Server struct {
	Protocol string // imap, pop3, smtp, lmtp, sieve, http
	Host     string // as configured: address or name, maybe with a trailing dot
	Port     int

	TLS           bool // TLS on connect
	StartTLS      bool
	TLSSkipVerify bool
	HAProxyV2     bool // a PROXY v2 header before anything else
	DeepCheck     bool
	RequestURI    string // http only; "": "/" where the check is deep
	ExpectStatus  string // http only: a class such as 2xx, or a number; "": 2xx
	TestUsername  string
	TestPassword  Secret

	Weight int      // of the host, 0-1000
	Tags   []string // the first is Dovecot's director_tag

	// SRV is the DNS name that the entry comes from, "" for one configured with
	// host and port. A template, whose Host is "", has it too.
	SRV      string
	Priority int // of its SRV record: less comes first
}

// Address is host:port, for logs and metrics.
func (s *Server) Address() string { return HostPort(s.Host, s.Port) }

// Tag is the first tag, or "".
func (s *Server) Tag() string {
	if len(s.Tags) == 0 {
		return ""
	}
	return s.Tags[0]
}

// HostPort joins host and port as net.JoinHostPort does; port 0 is left out.
func HostPort(host string, port int) string {
	if port == 0 {
		return host
	}
	for i := range len(host) {
		if host[i] == ':' {
			return "[" + host + "]:" + strconv.Itoa(port)
		}
	}
	return host + ":" + strconv.Itoa(port)
}

// Health is what checks found out about a backend.
type Health uint8

// Unknown: not checked yet. Stale: the last result is too old to count.
const (
	Unknown Health = iota
	Up
	Down
	Stale
)

// String returns the word that status shows.
func (h Health) String() string {
	return [...]string{"checking", "up", "down", "stale"}[h]
}

// Admin is what an operator ordered for a backend.
type Admin uint8

// AdminDrain: keeps its users, takes no new ones.
const (
	AdminUp Admin = iota
	AdminDrain
	AdminDown
)

// String returns the word that status shows.
func (a Admin) String() string { return [...]string{"up", "drain", "down"}[a] }

// ParseAdmin reads the word that String gives. What is no such word is AdminUp.
func ParseAdmin(word string) (a Admin, ok bool) {
	for _, a := range [...]Admin{AdminUp, AdminDrain, AdminDown} {
		if word == a.String() {
			return a, true
		}
	}
	return AdminUp, false
}

// An Entry is a Server with its state at one moment.
type Entry struct {
	*Server
	Health    Health
	Admin     Admin
	Addr      netip.Addr // the host's address; invalid while unresolved
	Since     time.Time  // of Health
	CheckedAt time.Time
	CheckTook time.Duration
	LastError string // of the last failed check, in words
	Standby   bool   // takes no new users while SRV records of a better priority are up
	Failing   bool   // the last check failed; Health may be Up for a while yet
	Kept      bool   // up only because too many fell at once to be believed

	host   *HostState // set by NewView
	listed bool       // whoever is assigned where; set by NewView
}

// Machine returns the host that the entry is of. It is nil before NewView.
func (e *Entry) Machine() *HostState { return e.host }

// isDown: by check or by order, as far as this entry alone goes.
func (e *Entry) isDown() bool { return e.Health == Down || e.Admin == AdminDown }

// Backends is the inventory with its health. The monitor implements it.
type Backends interface {
	// View returns the present snapshot; it is never nil.
	View() *View
	// WaitReady returns when every backend was checked once, or after one
	// check's timeout, or with ctx's error.
	WaitReady(ctx context.Context) error
}

// Names resolves host names of backends. The monitor implements it.
type Names interface {
	// Lookup returns the address of a host name or of an address in text form.
	// It answers from memory for names that it knows; the last good answer
	// stands while DNS fails. An error means that there is no answer.
	Lookup(ctx context.Context, host string) (netip.Addr, error)
}
