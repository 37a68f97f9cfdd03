package proxy

import (
	"errors"
	"net/netip"
	"time"
)

// An Outcome is what became of a request.
type Outcome uint8

// TempFail is the zero value: an outcome that nobody set fails closed.
const (
	TempFail Outcome = iota // try later; usher or something it depends on is at fault
	Routed                  // to Decision.Host and Port
	Denied                  // a passdb or the policy said no
	Held                    // wait, then ask again
	Passed                  // let through as it is: nothing to route
)

// String returns the word for logs and metrics.
func (o Outcome) String() string {
	return [...]string{"tempfail", "routed", "denied", "held", "passed"}[o]
}

// A Reason says why, in the words that logs and metrics carry.
type Reason string

// The reasons, by outcome.
const (
	// tempfail
	PolicyError         Reason = "policy_error"
	PolicyBudget        Reason = "policy_budget"
	PolicyTimeout       Reason = "policy_timeout"
	NoSelection         Reason = "no_selection"
	BadSelection        Reason = "bad_selection"
	UnlistedBackend     Reason = "unlisted_backend"
	BackendDown         Reason = "backend_down"
	NoBackend           Reason = "no_backend"
	PassdbUnavailable   Reason = "passdb_unavailable"
	UpstreamUnavailable Reason = "upstream_unavailable"
	StoreUnavailable    Reason = "store_unavailable"
	HoldExpired         Reason = "hold_expired"
	Overload            Reason = "overload"
	Unresolved          Reason = "unresolved"
	// denied
	BadPassword    Reason = "password"
	PolicyRefused  Reason = "policy" // also held
	UnverifiedSMTP Reason = "unverified_smtp"
	BadRequest     Reason = "bad_request"
	UserDisabled   Reason = "user_disabled"
	NoAuthRefused  Reason = "no_auth"
	BadSharedKey   Reason = "secret"
	UnknownUser    Reason = "unknown_user" // of a look-up; of a login it is BadPassword
	// routed
	Selected    Reason = "selected"
	Sticky      Reason = "sticky"
	Hashed      Reason = "hash"
	Pinned      Reason = "pinned"
	Enforced    Reason = "enforced"
	Race        Reason = "race"
	ByAttribute Reason = "attribute"
	// held
	ByOperator Reason = "operator"
	ByMove     Reason = "move"
	// passed
	UpstreamHost Reason = "upstream_host"
	NotProxied   Reason = "not_proxied"
	IsSelf       Reason = "self"
	AuthOnly     Reason = "nologin"
)

// A Decision is what came out for one request.
type Decision struct {
	ID      string // 26 characters, rising with time (ULID)
	Outcome Outcome
	By      string // policy:NAME, pin, assignment, attribute, upstream, passdb:NAME, operator, usher
	Reason  Reason

	// User is the final user name; Password what the backend is logged in with,
	// when the password driver changed it, else the client's.
	User     string
	Password Secret

	// Host is the chosen backend as the policy or the inventory names it. Port
	// 0 means the upstream's or the protocol's own. Addr is the host's address,
	// always valid when routed.
	Host string
	Port int
	Addr netip.Addr
	// Entry is the inventory's entry for it, or nil when it is not listed.
	Entry *Entry

	// Fields are the attributes that a password driver gave; Changes what the
	// policy did to them or to the upstream's fields.
	Fields  []Attr
	Changes []Change

	// Header are what the policy did to the answer's HTTP headers.
	Header []HeaderChange

	// Logs are what the policy added to the decision's log line.
	Logs []Attr

	// Text is what a denied client is shown; "": the same as a wrong password.
	Text string
	// Delayed: the refusal has waited already, and shall not wait again.
	Delayed bool
	// Wait says when a held request shall be asked again.
	Wait time.Duration
	// Err is the cause of a tempfail, for the log.
	Err error

	Took time.Duration
}

// ErrDenied is wrapped by an error of a Verifier that refuses the password.
// Every other error is a temporary failure.
var ErrDenied = errors.New("denied")

// ErrUnknownUser is wrapped by an error of a look-up for a user whom nobody knows.
var ErrUnknownUser = errors.New("unknown user")

// ErrNotServed is wrapped by an error of a look-up that nobody can answer.
var ErrNotServed = errors.New("not served")

// ErrOverload is wrapped by an error of a Verifier that has too much to do.
var ErrOverload = errors.New("overload")

// A Denial is a refusal with its reason. It wraps ErrDenied.
type Denial struct {
	By     string
	Reason Reason
	Text   string // shown to the client; "": looks like a wrong password
	// Delayed: who refused has let the refusal wait.
	Delayed bool
}

// Error implements error.
func (d *Denial) Error() string { return d.By + ": " + string(d.Reason) }

// Unwrap returns ErrDenied.
func (d *Denial) Unwrap() error { return ErrDenied }
