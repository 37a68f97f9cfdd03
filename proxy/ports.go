package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"usher/proxy/affinity"
)

// An Identity is what a Verifier found out about a user.
type Identity struct {
	User     string // final name; "": as the client said
	Password Secret // for the backend; empty: the client's
	Driver   string // name of the driver that answered
	Verified bool   // false: passthrough, nobody compared a password
	Fields   []Attr
}

// A Verifier checks passwords in standalone mode and for nginx. passdb.Chain
// implements it.
type Verifier interface {
	// Verify returns who the user is. An error that wraps ErrDenied refuses
	// (*Denial tells why); any other is a temporary failure.
	Verify(ctx context.Context, r *Request) (Identity, error)
}

// A Finder is a Verifier that also knows users without their passwords.
type Finder interface {
	// Find returns who the user of r is. An error that wraps ErrUnknownUser or
	// ErrDenied: there is no such user; any other is a temporary failure.
	Find(ctx context.Context, r *Request) (Identity, error)
}

// A Query is what a Director is asked.
type Query struct {
	Request  *Request
	Identity Identity
	// User is the final user name: the upstream's, the driver's, or as typed.
	User string
	// Authenticated: the password was not refused.
	Authenticated bool
	// ID is the decision's.
	ID string
	// Key is the assignment key; Assigned the canonical host of the live
	// assignment, "" for none.
	Key      affinity.Key
	Assigned string
	View     *View
	// Others answers what a policy asks about other assignments; nil where none
	// are kept.
	Others Others
	// DryRun: nothing may be left behind, and no network be reached.
	DryRun bool
	// Trace, if not nil, is told each step that mattered, in words.
	Trace func(step string)
}

// Candidates returns View.Candidates for the request. Where a real auth server
// answered, its director_tag keeps the hosts whose first tag it is, and no
// director_tag those without tags: separate spaces, as in Dovecot's director.
// The slice is shared: read it only.
func (q *Query) Candidates(assigned string) []*Entry {
	r := q.Request
	list := q.View.Candidates(r.Protocol, assigned, r.AddressOnly)
	if r.Upstream == nil || !q.View.tagged && q.Key.Tag == "" {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(e *Entry) bool { return e.Tag() != q.Key.Tag })
}

// A Verdict is what a policy said.
type Verdict struct {
	Refused bool
	Text    string // status_message_set; shown when refused
	Hold    time.Duration

	Selected bool // a backend was selected: Host and Port
	Host     string
	Port     int
	Reason   Reason // Selected, Sticky, Hashed
	By       string // name of the filter that decided

	// TempFail: the login is told to try later, and TempFailText says why, in the
	// log. It is no fault of the policy.
	TempFail     bool
	TempFailText string

	// Key, if not "", is the name that the assignment of this request is kept
	// under, instead of the user's, and KeyHost what the policy saw as its host
	// ("": none).
	Key     string
	KeyHost string

	Changes []Change
	// Header are changes of the answer's HTTP headers, in order.
	Header []HeaderChange
	// Failed: a filter returned FILTER_RESULT_FAIL, which is logged and counted.
	Failed bool
	// Logs are what custom_log_add left, for the decision's log line.
	Logs []Attr
}

// A PolicyFault is a Director's failure: always a temporary failure.
type PolicyFault struct {
	Kind Reason // PolicyError, PolicyBudget, PolicyTimeout
	Err  error
	// Reported: the policy fails again and again, of which the Director warns by
	// itself; for this one request nobody needs a warning.
	Reported bool
}

// reported reports whether an error is a fault that has been warned of.
func reported(err error) bool {
	f := (*PolicyFault)(nil)
	return errors.As(err, &f) && f.Reported
}

// Error implements error.
func (f *PolicyFault) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *PolicyFault) Unwrap() error { return f.Err }

// A Director runs the policy. luabridge implements it.
type Director interface {
	// Direct asks the policy. With q.Authenticated false only the filters that
	// want such requests run, for their side effects. Errors are *PolicyFault.
	Direct(ctx context.Context, q *Query) (Verdict, error)
}

// A Gate is a Director that is asked before the password too. With an upstream,
// which has compared it by then, it is asked all the same, before the policy.
type Gate interface {
	// Before may refuse, hold or fail a login; it selects nothing. Look-ups and
	// requests without a password are not asked about. Errors are *PolicyFault.
	Before(ctx context.Context, q *Query) (Verdict, error)
}

// Others is what policies may ask about assignments, besides the request's own.
// An error means that the store did not answer.
type Others interface {
	// AssignedUser returns the canonical host of a user's live assignment, "" for
	// none, under the key that a login of that name has.
	AssignedUser(ctx context.Context, user string) (host string, err error)
	// AssignedKey is the same for a key that a policy made; see Verdict.Key.
	AssignedKey(ctx context.Context, key string) (host string, err error)
	// Assigned returns how many assignments a host has, given its canonical name.
	// One that has expired may count for another minute.
	Assigned(host string) int
}

// Assignments is what the pipeline needs of affinity.Store.
type Assignments interface {
	Assigned(host string) int
	Lookup(ctx context.Context, key affinity.Key) (host string, err error)
	Claim(ctx context.Context, key affinity.Key, seen, host string) (winner string, err error)
	Remember(ctx context.Context, key affinity.Key, user string) error
	Refresh(ctx context.Context, name string) error
}

// Orders are what operators decreed for single users.
type Orders interface {
	// Held reports whether the user's logins shall wait.
	Held(ctx context.Context, user string) (bool, error)
	// Moving reports whether the key is on its way to another host, so that its
	// logins must wait.
	Moving(key affinity.Key) bool
	// Awaited returns the host where a key that has no assignment begins, "" for
	// anywhere: an order that came before the user.
	Awaited(key affinity.Key) string
	// Pin returns the canonical host that the user must go to, "" for none.
	Pin(ctx context.Context, user string) (host string, err error)
}

// A Recorder counts. control implements it.
type Recorder interface {
	// Decided is called once a decision, with r.Adapter and r.Protocol.
	Decided(r *Request, d *Decision)
	// PolicyRan is called once a policy run; failed is Verdict.Failed.
	PolicyRan(took time.Duration, failed bool, err error)
}
