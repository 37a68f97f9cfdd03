package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"usher/proxy/affinity"
)

// AffinityMode says how far assignments bind (affinity.mode).
type AffinityMode string

// The modes.
const (
	AffinityPolicy  AffinityMode = "policy"  // the policy sees the assignment and decides
	AffinityEnforce AffinityMode = "enforce" // a live assignment to a host that is up wins
	AffinityOff     AffinityMode = "off"     // none is looked up or kept
)

// Options put a Pipeline together. Verifier, Director, Backends, Names, and
// Recorder must be set; Assignments unless Affinity is off.
type Options struct {
	Verifier    Verifier
	Director    Director
	Backends    Backends
	Names       Names
	Assignments Assignments
	Orders      Orders    // nil: no pins, no holds
	Keys        *KeyIndex // nil: the keys that policies make are not refreshed
	Recorder    Recorder
	Log         *zap.Logger // nil: none

	Affinity        AffinityMode
	KeyScope        affinity.Scope
	MasterSeparator string // master_user_separator

	DenyUnlisted   bool // unlisted_backends: deny
	AllowIdentity  bool
	HostAttributes []string
}

// A Pipeline turns requests into decisions. It does not change once made; a
// reload makes another.
type Pipeline struct {
	opt Options
	log *zap.Logger
}

// New checks the options and returns a Pipeline.
func New(opt Options) (*Pipeline, error) {
	switch {
	case opt.Verifier == nil, opt.Director == nil, opt.Backends == nil, opt.Names == nil, opt.Recorder == nil:
		return nil, errors.New("proxy: a part of the pipeline is missing")
	case opt.Assignments == nil && opt.Affinity != AffinityOff:
		return nil, errors.New("proxy: affinity without a store")
	}
	log := opt.Log
	if log == nil {
		log = zap.NewNop()
	}
	return &Pipeline{opt: opt, log: log}, nil
}

// Handle decides on a request, records the decision and returns it. It blocks
// for as long as the password driver, the policy and the store take, each of
// which is bounded; ctx cuts it off.
func (p *Pipeline) Handle(ctx context.Context, r *Request) Decision {
	start := time.Now()
	run := run{Pipeline: p, r: r}
	run.begin(start)
	d := run.decide(ctx)
	d.ID, d.Header = run.q.ID, run.header
	d.Took = time.Since(start)
	p.record(r, &d)
	return d
}

// Refresh prolongs the assignment of a user whose session goes on, in every tag,
// if one lives, and that of the key that a policy made for him. The user's name is
// the destuser, or what the login was as.
func (p *Pipeline) Refresh(ctx context.Context, user string) error {
	if p.opt.Affinity == AffinityOff {
		return nil
	}
	err := p.opt.Assignments.Refresh(ctx, affinity.KeyName(user, p.opt.MasterSeparator, p.opt.KeyScope))
	name := affinity.OrderName(user, p.opt.MasterSeparator)
	key, made := p.opt.Keys.of(name)
	if !made || err != nil {
		return err
	}
	host, err := p.opt.Assignments.Lookup(ctx, key)
	if err != nil {
		return err
	}
	if host == "" {
		p.opt.Keys.forget(name)
		return nil
	}
	return p.opt.Assignments.Refresh(ctx, key.Name)
}

// Record completes and records a decision that an adapter came to by itself: a
// request refused before it was one, a queue that was full, a hold that
// expired, an upstream's answer that passes unchanged.
func (p *Pipeline) Record(r *Request, d Decision) Decision {
	d.ID = NewID(time.Now())
	if d.By == "" {
		d.By = "usher"
	}
	if d.User == "" {
		d.User = r.Account()
	}
	p.record(r, &d)
	return d
}

// Explain decides as Handle would for a user whose password is right, leaves
// nothing behind and records nothing. trace is told the steps.
func (p *Pipeline) Explain(ctx context.Context, r *Request, network bool, trace func(string)) Decision {
	start := time.Now()
	run := run{Pipeline: p, r: r, dry: true}
	run.begin(start)
	run.q.DryRun = !network
	run.q.Trace = trace
	d := run.decide(ctx)
	d.ID = run.q.ID
	d.Took = time.Since(start)
	return d
}

// A run is one request on its way through the pipeline.
type run struct {
	*Pipeline
	r   *Request
	q   Query
	dry bool

	header []HeaderChange
	// seen is the host of the live assignment as it was when the policy decided.
	seen string
	// pin is the user's, as it was when the place was picked.
	pin string
}

func (n *run) begin(now time.Time) {
	n.q.ID = NewID(now)
	if n.opt.Affinity != AffinityOff {
		n.q.Others = others{n}
	}
	n.r.ID, n.r.Notes = n.q.ID, nil
}

func (n *run) tempfail(why Reason, err error) Decision {
	return Decision{Outcome: TempFail, By: "usher", Reason: why, Err: err, User: n.q.User}
}

// decide is the one way that a request flows.
func (n *run) decide(ctx context.Context) Decision {
	if d, ok := n.valid(); !ok {
		return d
	}
	if d, ok := n.before(ctx); !ok {
		return d
	}
	if d, ok := n.verify(ctx); !ok {
		return d
	}
	if d, held := n.hold(ctx); held {
		return d
	}
	if !n.r.NoLogin {
		if err := n.opt.Backends.WaitReady(ctx); err != nil {
			return n.tempfail(NoBackend, err)
		}
	}
	if err := n.lookup(ctx); err != nil {
		return n.tempfail(StoreUnavailable, err)
	}

	v, err := n.ask(ctx)
	switch {
	case err != nil:
		return n.fault(err)
	case v.Refused:
		return Decision{Outcome: Denied, By: v.By, Reason: PolicyRefused, Text: v.Text, User: n.q.User, Logs: v.Logs}
	case v.TempFail:
		return n.later(&v)
	case n.r.NoLogin:
		by := "passdb:" + n.q.Identity.Driver
		if n.r.Upstream != nil {
			by = "upstream"
		}
		return Decision{Outcome: Passed, By: by, Reason: AuthOnly, User: n.q.User, Logs: v.Logs}
	case v.Hold > 0 && n.r.Service != "doveadm":
		return Decision{Outcome: Held, By: v.By, Reason: PolicyRefused, Wait: v.Hold, User: n.q.User, Logs: v.Logs}
	}

	if err := n.rekey(ctx, &v); err != nil {
		return n.tempfail(StoreUnavailable, err)
	}
	if n.opt.Orders != nil && n.r.Service != "doveadm" && n.opt.Orders.Moving(n.q.Key) {
		return n.wait(ByMove)
	}
	changes, err := settle(v.Changes, n.opt.AllowIdentity, n.opt.HostAttributes)
	if err != nil {
		return n.fault(err)
	}
	d := n.route(ctx, &v)
	d.User, d.Logs = n.q.User, v.Logs
	if d.Outcome == Routed {
		d.Password = n.q.Identity.Password
		if d.Password.IsEmpty() {
			d.Password = n.r.Password
		}
		d.Fields = n.q.Identity.Fields
		d.Changes = changes
	}
	return d
}

// valid looks at the names, before anything else sees them. With ok false the
// decision stands.
func (n *run) valid() (d Decision, ok bool) {
	n.q.Request, n.q.User = n.r, n.r.Account()
	if err := ValidUser(n.r.User); err != nil {
		d := n.deny("usher", BadRequest, "")
		d.Err = err
		return d, false
	}
	if err := validNames(n.r.Upstream); err != nil {
		return n.tempfail(UpstreamUnavailable, err), false
	}
	return d, true
}

func (n *run) deny(by string, why Reason, text string) Decision {
	return Decision{Outcome: Denied, By: by, Reason: why, Text: text, User: n.q.User}
}

// before asks the policy's features. With ok false the decision stands.
func (n *run) before(ctx context.Context) (d Decision, ok bool) {
	gate, has := n.opt.Director.(Gate)
	if !has || n.r.NoAuth || n.r.Lookup {
		return d, true
	}
	n.q.View = n.opt.Backends.View()
	start := time.Now()
	v, err := gate.Before(ctx, &n.q)
	n.header = v.Header
	if (err != nil || v.Failed) && !n.dry {
		n.opt.Recorder.PolicyRan(time.Since(start), v.Failed, err)
	}
	if err != nil {
		return n.fault(err), false
	}
	if v.Refused {
		d := n.deny(v.By, PolicyRefused, v.Text)
		d.Logs = v.Logs
		return d, false
	}
	if v.TempFail {
		return n.later(&v), false
	}
	if v.Hold > 0 {
		return Decision{Outcome: Held, By: v.By, Reason: PolicyRefused, Wait: v.Hold, User: n.q.User, Logs: v.Logs}, false
	}
	return d, true
}

// verify fills in who the user is. With ok false the decision stands.
func (n *run) verify(ctx context.Context) (d Decision, ok bool) {
	r, deny := n.r, n.deny
	n.q.Authenticated = true
	switch {
	case r.Upstream != nil:
		n.q.Identity = Identity{User: r.Upstream.User, Driver: "upstream", Verified: true}
		return d, true
	case n.dry:
		n.q.Identity.Driver = "dry-run"
		return d, true
	case r.Lookup:
		return n.find(ctx)
	case r.NoAuth && r.Protocol == "smtp":
		return deny("usher", NoAuthRefused, ""), false
	case r.NoAuth:
		return d, true
	}

	id, err := n.opt.Verifier.Verify(ctx, r)
	if errors.Is(err, ErrDenied) {
		d := deny("passdb", BadPassword, "")
		if den := (*Denial)(nil); errors.As(err, &den) {
			d.By, d.Reason, d.Text, d.Delayed = den.By, den.Reason, den.Text, den.Delayed
		}
		n.afterRefusal(ctx)
		return d, false
	}
	if errors.Is(err, ErrOverload) {
		return n.tempfail(Overload, err), false
	}
	if err != nil {
		return n.tempfail(PassdbUnavailable, err), false
	}
	if id.User == "" {
		id.User = r.User
	}
	n.q.Identity, n.q.User = id, id.User
	if err := ValidUser(id.User); err != nil {
		return n.tempfail(PassdbUnavailable, fmt.Errorf("%s answered a %w", id.Driver, err)), false
	}
	// Passing on a password that nobody compared is right where the backend
	// compares it. A mail submission that is only authenticated here, or that
	// nginx does not log in at the backend, would be an open relay.
	if !id.Verified && (r.NoLogin || !backendVerifies(r.Service)) {
		n.log.Warn("authentication refused: no password driver verifies it, and no backend will; configure passdb with one that does, passthrough would be an open relay",
			zap.String("adapter", r.Adapter), zap.String("service", r.Service))
		return deny("usher", UnverifiedSMTP, ""), false
	}
	return d, true
}

// find looks a user up for whom nobody claims a password.
func (n *run) find(ctx context.Context) (d Decision, ok bool) {
	f, can := n.opt.Verifier.(Finder)
	if !can {
		return d, true
	}
	id, err := f.Find(ctx, n.r)
	switch {
	case errors.Is(err, ErrUnknownUser), errors.Is(err, ErrDenied):
		return Decision{Outcome: Denied, By: "passdb", Reason: UnknownUser, User: n.q.User}, false
	case err != nil:
		return n.tempfail(PassdbUnavailable, err), false
	}
	if id.User != "" {
		n.q.User = id.User
	}
	id.User = n.q.User
	n.q.Identity = id
	if err := ValidUser(id.User); err != nil {
		return n.tempfail(PassdbUnavailable, fmt.Errorf("%s answered a %w", id.Driver, err)), false
	}
	return d, true
}

// backendVerifies reports whether a proxy of that service logs in at the backend
// with the client's password, so that passing it on is enough. Of other
// services (smtp; xmpp and the like, which take an OK at its word) nobody knows.
func backendVerifies(service string) bool {
	switch service {
	case "imap", "pop3", "submission", "sieve", "managesieve":
		return true
	}
	return false
}

// validNames looks at the names that an auth server answered, if one did.
func validNames(u *Upstream) error {
	if u == nil {
		return nil
	}
	for _, s := range [...]string{u.User, u.DestUser} {
		if s == "" {
			continue
		}
		if err := ValidUser(s); err != nil {
			return fmt.Errorf("upstream: %w", err)
		}
	}
	return nil
}

// afterRefusal lets the policy see a refused password, for its side effects. A
// fault there is counted and changes nothing: the refusal is final.
func (n *run) afterRefusal(ctx context.Context) {
	n.q.Authenticated = false
	n.q.View = n.opt.Backends.View()
	if _, err := n.ask(ctx); err != nil && !reported(err) {
		n.log.Warn("policy failed after a refused password", zap.Error(err))
	}
}

// hold asks for an operator's hold. doveadm's look-ups never wait: a flush
// hook that a move runs would wait for itself.
func (n *run) hold(ctx context.Context) (Decision, bool) {
	if n.opt.Orders == nil || n.r.Service == "doveadm" || n.r.NoLogin {
		return Decision{}, false
	}
	held, err := n.opt.Orders.Held(ctx, n.q.User)
	if err != nil {
		return n.tempfail(StoreUnavailable, err), true
	}
	if !held {
		return Decision{}, false
	}
	return n.wait(ByOperator), true
}

// wait is the decision that a login waits for an operator.
func (n *run) wait(why Reason) Decision {
	n.trace("held: %s", why)
	return Decision{Outcome: Held, By: "operator", Reason: why, Wait: holdStep, User: n.q.User}
}

// holdStep is how long a held login waits before it is asked about again.
const holdStep = time.Second

// lookup finds the user's live assignment and takes the snapshot of backends
// that this request sees.
func (n *run) lookup(ctx context.Context) error {
	n.q.View = n.opt.Backends.View()
	if n.r.NoLogin {
		return nil
	}
	name := n.q.User
	if u := n.r.Upstream; u != nil {
		n.q.Key.Tag = u.Tag
		if u.DestUser != "" {
			name = u.DestUser
		}
	}
	n.q.Key.Name = affinity.KeyName(name, n.opt.MasterSeparator, n.opt.KeyScope)
	if n.opt.Affinity == AffinityOff {
		return nil
	}
	host, err := n.opt.Assignments.Lookup(ctx, n.q.Key)
	if err != nil {
		return err
	}
	n.q.Assigned, n.seen = host, host
	if host == "" && n.opt.Orders != nil {
		n.q.Assigned = n.opt.Orders.Awaited(n.q.Key)
	}
	if n.q.Trace != nil { // else what trace takes costs two allocations
		n.trace("assignment of %q: %s", n.q.Key.Name, cmp.Or(host, "none"))
	}
	return nil
}

func (n *run) ask(ctx context.Context) (Verdict, error) {
	start := time.Now()
	v, err := n.opt.Director.Direct(ctx, &n.q)
	n.header = append(n.header, v.Header...)
	if !n.dry {
		n.opt.Recorder.PolicyRan(time.Since(start), v.Failed, err)
	}
	return v, err
}

// fault turns a Director's error into a decision.
func (n *run) fault(err error) Decision {
	why := PolicyError
	if f := (*PolicyFault)(nil); errors.As(err, &f) {
		why = f.Kind
	}
	return n.tempfail(why, err)
}
