package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy/affinity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Fakes: structs of functions.

type fakeVerifier func(*Request) (Identity, error)

func (f fakeVerifier) Verify(_ context.Context, r *Request) (Identity, error) { return f(r) }

func (fakeVerifier) Find(_ context.Context, r *Request) (Identity, error) {
	switch r.User {
	case "nobody":
		return Identity{}, fmt.Errorf("fake: %w", ErrUnknownUser)
	case "refused":
		return Identity{}, &Denial{By: "fake", Reason: UserDisabled}
	case "broken":
		return Identity{}, errors.New("out of order")
	}
	return Identity{Driver: "fake"}, nil
}

// lookup makes a request a userdb look-up.
func lookup(name string) func(*Request) {
	return func(r *Request) {
		service(name)(r)
		r.NoAuth, r.Lookup, r.Password = true, true, Secret{}
	}
}

type fakeDirector func(*Query) (Verdict, error)

func (f fakeDirector) Direct(_ context.Context, q *Query) (Verdict, error) { return f(q) }

type fakeBackends struct {
	view  *View
	ready error
}

func (f fakeBackends) View() *View                     { return f.view }
func (f fakeBackends) WaitReady(context.Context) error { return f.ready }

type fakeNames map[string]string

func (f fakeNames) Lookup(_ context.Context, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, nil
	}
	if a, ok := f[host]; ok {
		return netip.MustParseAddr(a), nil
	}
	return netip.Addr{}, errors.New("no such name")
}

type fakeOrders struct{ pin, hold, awaited string }

func (f fakeOrders) Pin(context.Context, string) (string, error) { return f.pin, nil }
func (f fakeOrders) Held(context.Context, string) (bool, error)  { return f.hold == "operator", nil }
func (f fakeOrders) Awaited(affinity.Key) string                 { return f.awaited }
func (f fakeOrders) Moving(affinity.Key) bool                    { return f.hold == "move" }

type recorder struct{ decided, ran int }

func (r *recorder) Decided(*Request, *Decision)          { r.decided++ }
func (r *recorder) PolicyRan(time.Duration, bool, error) { r.ran++ }

// brokenStore is a store that is away.
type brokenStore struct{}

func (brokenStore) Assigned(string) int { return 0 }

func (brokenStore) Refresh(context.Context, string) error { return errors.New("away") }

func (brokenStore) Remember(context.Context, affinity.Key, string) error {
	return errors.New("away")
}

func (brokenStore) Lookup(context.Context, affinity.Key) (string, error) {
	return "", errors.New("away")
}

func (brokenStore) Claim(context.Context, affinity.Key, string, string) (string, error) {
	return "", errors.New("away")
}

func (racyStore) Assigned(string) int                   { return 0 }
func (racyStore) Refresh(context.Context, string) error { return nil }

func (racyStore) Remember(context.Context, affinity.Key, string) error { return nil }

// racyStore answers as if another node had claimed between look-up and claim.
type racyStore struct{ winner string }

func (racyStore) Lookup(context.Context, affinity.Key) (string, error) { return "", nil }
func (s racyStore) Claim(context.Context, affinity.Key, string, string) (string, error) {
	return s.winner, nil
}

func entry(protocol, host string, port int, h Health, change ...func(*Entry)) Entry {
	e := Entry{Server: &Server{Protocol: protocol, Host: host, Port: port, Weight: 100}, Health: h}
	if a, err := netip.ParseAddr(host); err == nil {
		e.Addr = a
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func inventory() []Entry {
	return []Entry{
		entry("imap", "127.0.0.2", 143, Up), entry("pop3", "127.0.0.2", 110, Up),
		entry("imap", "127.0.0.3", 143, Up), entry("pop3", "127.0.0.3", 110, Up),
		entry("imap", "127.0.0.4", 143, Down), entry("pop3", "127.0.0.4", 110, Up),
		entry("imap", "127.0.0.5", 993, Up, func(e *Entry) { e.TLS = true }), entry("pop3", "127.0.0.5", 110, Up),
		entry("imap", "127.0.0.6", 143, Up, func(e *Entry) { e.Admin = AdminDrain }), entry("pop3", "127.0.0.6", 110, Up),
		entry("imap", "127.0.0.7", 143, Unknown), entry("pop3", "127.0.0.7", 110, Up),
		entry("smtp", "127.0.0.8", 25, Up), entry("smtp", "127.0.0.9", 25, Down),
	}
}

func selecting(host string, port int) fakeDirector {
	return func(*Query) (Verdict, error) {
		return Verdict{Selected: true, Host: host, Port: port, Reason: Selected, By: "policy:test"}, nil
	}
}

func silent(*Query) (Verdict, error) { return Verdict{}, nil }

// request is a Dovecot imap login with a right password.
func request(change ...func(*Request)) *Request {
	r := &Request{
		Adapter: "dovecot", Service: "imap", Protocol: "imap", Method: "plain",
		User: "alice@example.org", Password: NewSecret("s3cret"),
		Client: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("198.51.100.1:143"),
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func service(s string) func(*Request) {
	return func(r *Request) { r.Service, r.Protocol = s, ProtocolOf(s) }
}

func TestHandle(t *testing.T) {
	passing := func(r *Request) (Identity, error) { return Identity{Driver: "passthrough"}, nil }
	verifying := func(r *Request) (Identity, error) {
		return Identity{Driver: "passwd_file", User: r.User, Verified: true}, nil
	}
	for _, tc := range []struct {
		name     string
		r        *Request
		opt      func(*Options)
		director fakeDirector
		assigned string
		want     string // outcome by reason backend
		after    string // the assignment that stands then
	}{
		{name: "selected", director: selecting("127.0.0.2", 143),
			want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "the policy may move a live assignment", director: selecting("127.0.0.2", 143), assigned: "127.0.0.3",
			want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "lmtp creates an assignment", r: request(service("lmtp")), director: selecting("127.0.0.2", 24),
			want: "routed policy:test selected 127.0.0.2:24", after: "127.0.0.2"},
		{name: "lmtp replaces none", r: request(service("lmtp")), director: selecting("127.0.0.2", 24), assigned: "127.0.0.3",
			want: "routed policy:test selected 127.0.0.2:24", after: "127.0.0.3"},
		{name: "doveadm records none", r: request(service("doveadm")), director: selecting("127.0.0.2", 0),
			want: "routed policy:test selected 127.0.0.2"},
		{name: "submission records none", r: request(service("submission")), director: selecting("127.0.0.8", 25),
			want: "routed policy:test selected 127.0.0.8:25"},
		{name: "unlisted hosts are allowed", director: selecting("192.0.2.99", 143),
			want: "routed policy:test selected 192.0.2.99:143", after: "192.0.2.99"},
		{name: "unlisted hosts are denied", director: selecting("192.0.2.99", 143), opt: func(o *Options) { o.DenyUnlisted = true },
			want: "tempfail policy:test unlisted_backend 192.0.2.99:143"},
		{name: "an unlisted port is denied", director: selecting("127.0.0.2", 144), opt: func(o *Options) { o.DenyUnlisted = true },
			want: "tempfail policy:test unlisted_backend 127.0.0.2:144"},
		{name: "a host is named otherwise", director: selecting("IMAP.Example.Org.", 143),
			want: "routed policy:test selected IMAP.Example.Org.:143", after: "imap.example.org"},
		{name: "a name that does not resolve", director: selecting("gone.example.org", 143),
			want: "tempfail policy:test unresolved gone.example.org:143"},
		{name: "down by check", director: selecting("127.0.0.4", 143),
			want: "tempfail policy:test backend_down 127.0.0.4:143"},
		{name: "down because its imap is", r: request(service("pop3")), director: selecting("127.0.0.4", 110),
			want: "tempfail policy:test backend_down 127.0.0.4:110"},
		{name: "another protocol that is down", r: request(service("submission")), director: selecting("127.0.0.9", 25),
			want: "tempfail policy:test backend_down 127.0.0.9:25"},
		{name: "unknown health takes no new users", director: selecting("127.0.0.7", 143),
			want: "tempfail policy:test backend_down 127.0.0.7:143"},
		{name: "unknown health keeps its users", director: selecting("127.0.0.7", 143), assigned: "127.0.0.7",
			want: "routed policy:test selected 127.0.0.7:143", after: "127.0.0.7"},
		{name: "drained is reached by name", director: selecting("127.0.0.6", 143),
			want: "routed policy:test selected 127.0.0.6:143", after: "127.0.0.6"},
		{name: "a selected host with a line break", director: selecting("127.0.0.2\r\nAuth-Status: OK", 143),
			want: "tempfail policy:test bad_selection"},
		{name: "a selected port of -1", director: selecting("127.0.0.2", -1), want: "tempfail policy:test bad_selection"},
		{name: "a selected port of 65536", director: selecting("127.0.0.2", 65536), want: "tempfail policy:test bad_selection"},
		{name: "nginx and an entry with TLS", r: request(func(r *Request) { r.AddressOnly = true }), director: selecting("127.0.0.5", 993),
			want: "tempfail policy:test bad_selection 127.0.0.5:993"},
		{name: "nothing selected", director: silent, want: "tempfail usher no_selection"},
		{name: "nothing offered", r: request(service("sieve")), director: silent,
			opt: func(o *Options) {
				o.Backends = fakeBackends{view: NewView([]Entry{entry("sieve", "127.0.0.2", 4190, Down)})}
			},
			want: "tempfail usher no_backend"},
		{name: "policy error", director: func(*Query) (Verdict, error) {
			return Verdict{}, &PolicyFault{Kind: PolicyError, Err: errors.New("x.lua:1: boom")}
		}, want: "tempfail usher policy_error"},
		{name: "policy budget", director: func(*Query) (Verdict, error) {
			return Verdict{}, &PolicyFault{Kind: PolicyBudget, Err: errors.New("steps")}
		}, want: "tempfail usher policy_budget"},
		{name: "an unknown error of the policy", director: func(*Query) (Verdict, error) { return Verdict{}, errors.New("?") },
			want: "tempfail usher policy_error"},
		{name: "refused by the policy", director: func(*Query) (Verdict, error) {
			return Verdict{Refused: true, By: "policy:test", Selected: true, Host: "127.0.0.2", Port: 143}, nil
		}, want: "denied policy:test policy"},
		{name: "held by the policy", director: func(*Query) (Verdict, error) {
			return Verdict{Hold: time.Second, By: "policy:test", Selected: true, Host: "127.0.0.2", Port: 143}, nil
		}, want: "held policy:test policy"},
		{name: "doveadm is never held", r: request(service("doveadm")), director: func(*Query) (Verdict, error) {
			return Verdict{Hold: time.Second, Selected: true, Host: "127.0.0.2", By: "policy:test", Reason: Selected}, nil
		}, want: "routed policy:test selected 127.0.0.2"},

		{name: "wrong password", opt: func(o *Options) {
			o.Verifier = fakeVerifier(func(*Request) (Identity, error) {
				return Identity{}, &Denial{By: "passdb:passwd_file", Reason: BadPassword}
			})
		}, director: selecting("127.0.0.2", 143), want: "denied passdb:passwd_file password"},
		{name: "a driver's error", opt: func(o *Options) {
			o.Verifier = fakeVerifier(func(*Request) (Identity, error) { return Identity{}, errors.New("no such file") })
		}, director: selecting("127.0.0.2", 143), want: "tempfail usher passdb_unavailable"},
		{name: "overload", opt: func(o *Options) {
			o.Verifier = fakeVerifier(func(*Request) (Identity, error) {
				return Identity{}, fmt.Errorf("hashing: %w", ErrOverload)
			})
		}, director: selecting("127.0.0.2", 143), want: "tempfail usher overload"},
		{name: "a driver that answers a bad name", opt: func(o *Options) {
			o.Verifier = fakeVerifier(func(*Request) (Identity, error) { return Identity{User: "a\tb", Verified: true}, nil })
		}, director: selecting("127.0.0.2", 143), want: "tempfail usher passdb_unavailable"},
		{name: "a bad user name", r: request(func(r *Request) { r.User = "a\tb" }), director: selecting("127.0.0.2", 143),
			want: "denied usher bad_request"},
		{name: "an empty user name", r: request(func(r *Request) { r.User = "" }), director: selecting("127.0.0.2", 143),
			want: "denied usher bad_request"},
		{name: "smtp through passthrough", r: request(service("smtp")), opt: func(o *Options) { o.Verifier = fakeVerifier(passing) },
			director: selecting("127.0.0.8", 25), want: "denied usher unverified_smtp"},
		{name: "nologin through passthrough", r: request(func(r *Request) { r.NoLogin = true }),
			opt: func(o *Options) { o.Verifier = fakeVerifier(passing) }, director: silent, want: "denied usher unverified_smtp"},
		{name: "a service that takes an OK at its word, through passthrough", r: request(service("xmpp")), opt: func(o *Options) { o.Verifier = fakeVerifier(passing) },
			director: selecting("127.0.0.2", 5222), want: "denied usher unverified_smtp"},
		{name: "submission through passthrough", r: request(service("submission")), opt: func(o *Options) { o.Verifier = fakeVerifier(passing) },
			director: selecting("127.0.0.8", 25), want: "routed policy:test selected 127.0.0.8:25"},
		{name: "smtp verified", r: request(service("smtp")), opt: func(o *Options) { o.Verifier = fakeVerifier(verifying) },
			director: selecting("127.0.0.8", 25), want: "routed policy:test selected 127.0.0.8:25"},
		{name: "nologin verified", r: request(func(r *Request) { r.NoLogin = true }), director: silent,
			want: "passed passdb:passwd_file nologin"},
		{name: "nologin refused by the policy", r: request(func(r *Request) { r.NoLogin = true }),
			director: func(*Query) (Verdict, error) { return Verdict{Refused: true, By: "policy:test"}, nil }, want: "denied policy:test policy"},
		{name: "no authentication for smtp", r: request(service("smtp"), func(r *Request) { r.NoAuth = true }),
			director: selecting("127.0.0.8", 25), want: "denied usher no_auth"},
		{name: "no authentication", r: request(func(r *Request) { r.NoAuth = true }), director: selecting("127.0.0.2", 143),
			want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},

		{name: "pinned", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} },
			want: "routed pin pinned 127.0.0.3:143", after: "127.0.0.3"},
		{name: "pinned, nothing selected", director: silent, opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} },
			want: "routed pin pinned 127.0.0.3:143", after: "127.0.0.3"},
		{name: "pinned to a drained host", director: silent, opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.6"} },
			want: "routed pin pinned 127.0.0.6:143", after: "127.0.0.6"},
		{name: "pinned to a host that is down", director: selecting("127.0.0.2", 143),
			opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.4"} }, want: "tempfail pin backend_down 127.0.0.4"},
		{name: "a pin does not undo a refusal", director: func(*Query) (Verdict, error) { return Verdict{Refused: true, By: "policy:test"}, nil },
			opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} }, want: "denied policy:test policy"},
		{name: "pinned to a host without that service", r: request(service("submission")), director: silent,
			opt:  func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} },
			want: "routed pin hash 127.0.0.8:25"},
		{name: "held by an operator", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Orders = fakeOrders{hold: "operator"} },
			want: "held operator operator"},
		{name: "held by a move", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Orders = fakeOrders{hold: "move"} },
			want: "held operator move"},
		{name: "a move does not hold who is refused", director: func(*Query) (Verdict, error) { return Verdict{Refused: true, By: "policy:test"}, nil },
			opt: func(o *Options) { o.Orders = fakeOrders{hold: "move"} }, want: "denied policy:test policy"},
		{name: "doveadm is not held by an operator", r: request(service("doveadm")), director: selecting("127.0.0.2", 0),
			opt: func(o *Options) { o.Orders = fakeOrders{hold: "move"} }, want: "routed policy:test selected 127.0.0.2"},

		{name: "enforced", director: selecting("127.0.0.2", 143), assigned: "127.0.0.3", opt: func(o *Options) { o.Affinity = AffinityEnforce },
			want: "routed assignment enforced 127.0.0.3:143", after: "127.0.0.3"},
		{name: "enforced, nothing selected", director: silent, assigned: "127.0.0.3", opt: func(o *Options) { o.Affinity = AffinityEnforce },
			want: "routed assignment enforced 127.0.0.3:143", after: "127.0.0.3"},
		{name: "enforced, but the host is down", director: selecting("127.0.0.2", 143), assigned: "127.0.0.4",
			opt: func(o *Options) { o.Affinity = AffinityEnforce }, want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "enforced, but the host left the inventory", director: selecting("127.0.0.2", 143), assigned: "127.0.0.99",
			opt: func(o *Options) { o.Affinity = AffinityEnforce }, want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "enforced without an inventory", director: selecting("192.0.2.2", 143), assigned: "192.0.2.3", opt: func(o *Options) {
			o.Affinity, o.Backends = AffinityEnforce, fakeBackends{view: NewView(nil)}
		}, want: "routed assignment enforced 192.0.2.3:143", after: "192.0.2.3"},
		{name: "sieve on a machine of its own records none", r: request(service("sieve")), director: selecting("127.0.0.8", 4190), opt: func(o *Options) {
			o.Backends = fakeBackends{view: NewView([]Entry{entry("imap", "127.0.0.2", 143, Up), entry("sieve", "127.0.0.8", 4190, Up)})}
		}, want: "routed policy:test selected 127.0.0.8:4190"},
		{name: "nor does it replace one", r: request(service("sieve")), director: selecting("127.0.0.8", 4190), assigned: "127.0.0.2", opt: func(o *Options) {
			o.Backends = fakeBackends{view: NewView([]Entry{entry("imap", "127.0.0.2", 143, Up), entry("sieve", "127.0.0.8", 4190, Up)})}
		}, want: "routed policy:test selected 127.0.0.8:4190", after: "127.0.0.2"},
		{name: "affinity off", director: selecting("127.0.0.2", 143), assigned: "127.0.0.3", opt: func(o *Options) { o.Affinity = AffinityOff },
			want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.3"},
		{name: "a lost race", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Assignments = racyStore{"127.0.0.3"} },
			want: "routed assignment race 127.0.0.3:143"},
		{name: "a lost race to a host that is down", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Assignments = racyStore{"127.0.0.4"} },
			want: "tempfail assignment backend_down 127.0.0.4"},
		{name: "a lost race to a host that keeps its users", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Assignments = racyStore{"127.0.0.7"} },
			want: "routed assignment race 127.0.0.7:143"},
		{name: "a lost race to a host without that service", r: request(service("sieve")), director: selecting("127.0.0.2", 4190), opt: func(o *Options) {
			o.Assignments = racyStore{"127.0.0.3"}
			o.Backends = fakeBackends{view: NewView([]Entry{entry("imap", "127.0.0.2", 143, Up), entry("sieve", "127.0.0.2", 4190, Up), entry("imap", "127.0.0.3", 143, Up)})}
		}, want: "routed assignment hash 127.0.0.2:4190"},
		{name: "the store is away", director: selecting("127.0.0.2", 143), opt: func(o *Options) { o.Assignments = brokenStore{} },
			want: "tempfail usher store_unavailable"},

		{name: "a host by attribute", director: attributes(Change{Attr: Attr{Name: "Proxy-Host", Value: "127.0.0.3"}}),
			want: "routed attribute attribute 127.0.0.3:143", after: "127.0.0.3"},
		{name: "a selection beats an attribute", director: func(q *Query) (Verdict, error) {
			v, _ := selecting("127.0.0.2", 143)(q)
			v.Changes = []Change{{Attr: Attr{Name: "Proxy-Host", Value: "127.0.0.3"}}}
			return v, nil
		}, want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "a host by attribute that is unlisted, toward nginx", r: request(func(r *Request) { r.AddressOnly = true }),
			director: attributes(Change{Attr: Attr{Name: "host", Value: "192.0.2.9"}}), want: "tempfail attribute no_backend 192.0.2.9"},
		{name: "a list as attribute", director: func(q *Query) (Verdict, error) {
			v, _ := selecting("127.0.0.2", 143)(q)
			v.Changes = []Change{{Attr: Attr{Name: "quota"}, List: true}}
			return v, nil
		}, want: "tempfail usher policy_error"},
		{name: "an attribute whose name breaks the line", director: func(q *Query) (Verdict, error) {
			v, _ := selecting("127.0.0.2", 143)(q)
			v.Changes = []Change{{Attr: Attr{Name: "a\tpass=x", Value: "1"}}}
			return v, nil
		}, want: "tempfail usher policy_error"},

		{name: "interposed", r: upstream(&Upstream{User: "bob@example.org"}), director: selecting("127.0.0.2", 0),
			want: "routed policy:test selected 127.0.0.2:143"},
		{name: "director_proxy_maybe that is this proxy", r: upstream(&Upstream{User: "alice@example.org", ProxyMaybe: true}, func(r *Request) {
			r.Local = netip.MustParseAddrPort("127.0.0.2:143")
		}), director: selecting("127.0.0.2", 143), want: "passed policy:test self 127.0.0.2:143", after: "127.0.0.2"},
		{name: "director_proxy_maybe on another port", r: upstream(&Upstream{User: "alice@example.org", ProxyMaybe: true}, func(r *Request) {
			r.Local = netip.MustParseAddrPort("127.0.0.2:10143")
		}), director: selecting("127.0.0.2", 143), want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "an upstream's bad name is no wrong password", r: upstream(&Upstream{User: "alice@example.org", DestUser: strings.Repeat("a", 256)}),
			director: selecting("127.0.0.2", 0), want: "tempfail usher upstream_unavailable"},
		{name: "a loop", r: upstream(&Upstream{User: "alice@example.org"}, func(r *Request) {
			r.Local = netip.MustParseAddrPort("127.0.0.2:143")
		}), director: selecting("127.0.0.2", 143), want: "tempfail policy:test bad_selection 127.0.0.2:143", after: "127.0.0.2"},
		{name: "a loop, standalone", r: request(func(r *Request) { r.Local = netip.MustParseAddrPort("[::ffff:127.0.0.2]:143") }),
			director: selecting("127.0.0.2", 143), want: "tempfail policy:test bad_selection 127.0.0.2:143", after: "127.0.0.2"},
		{name: "no loop on another port", r: request(func(r *Request) { r.Local = netip.MustParseAddrPort("127.0.0.2:10143") }),
			director: selecting("127.0.0.2", 143), want: "routed policy:test selected 127.0.0.2:143", after: "127.0.0.2"},
		{name: "director_tag, pinned to a host without that service", r: upstream(&Upstream{User: "alice@example.org", Tag: "ssd"}, service("submission")),
			director: silent, opt: func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} }, want: "tempfail usher no_backend"},
		{name: "a look-up", r: request(lookup("lmtp")), director: selecting("127.0.0.2", 0),
			want: "routed policy:test selected 127.0.0.2", after: "127.0.0.2"},
		{name: "a look-up of a user whom nobody knows", r: request(lookup("lmtp"), func(r *Request) { r.User = "nobody" }), director: selecting("127.0.0.2", 0),
			want: "denied passdb unknown_user"},
		{name: "a look-up of a user who is refused", r: request(lookup("lmtp"), func(r *Request) { r.User = "refused" }), director: selecting("127.0.0.2", 0),
			want: "denied passdb unknown_user"},
		{name: "a look-up that fails", r: request(lookup("lmtp"), func(r *Request) { r.User = "broken" }), director: selecting("127.0.0.2", 0),
			want: "tempfail usher passdb_unavailable"},
		{name: "a look-up of a bad name", r: request(lookup("lmtp"), func(r *Request) { r.User = "a\nb" }), director: selecting("127.0.0.2", 0),
			want: "denied usher bad_request"},
		{name: "a doveadm look-up records nothing", r: request(lookup("doveadm")), director: selecting("127.0.0.2", 0),
			want: "routed policy:test selected 127.0.0.2"},

		{name: "backends are not ready", director: selecting("127.0.0.2", 143), opt: func(o *Options) {
			o.Backends = fakeBackends{NewView(inventory()), context.DeadlineExceeded}
		}, want: "tempfail usher no_backend"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: time.Minute, MaxEntries: 10})
			if err != nil {
				t.Fatal(err)
			}
			key := affinity.Key{Name: "alice@example.org"}
			if tc.assigned != "" {
				if _, err := store.Claim(t.Context(), key, "", tc.assigned); err != nil {
					t.Fatal(err)
				}
			}
			rec := &recorder{}
			core, logs := observer.New(zap.InfoLevel)
			opt := Options{
				Verifier: fakeVerifier(verifying), Director: tc.director, Backends: fakeBackends{view: NewView(inventory())},
				Names: fakeNames{"IMAP.Example.Org.": "192.0.2.44"}, Assignments: store, Recorder: rec, Log: zap.New(core),
				Affinity: AffinityPolicy, KeyScope: affinity.ByUser,
				HostAttributes: []string{"host", "Proxy-Host", "hostip"},
			}
			if tc.opt != nil {
				tc.opt(&opt)
			}
			p, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			r := tc.r
			if r == nil {
				r = request()
			}
			d := p.Handle(t.Context(), r)
			got := fmt.Sprintf("%s %s %s", d.Outcome, d.By, d.Reason)
			if d.Host != "" && d.Reason != BadSelection || strings.Contains(tc.want, "bad_selection 1") {
				got += " " + HostPort(d.Host, d.Port)
			}
			if got != tc.want {
				t.Errorf("got  %s (%v)\nwant %s", got, d.Err, tc.want)
			}
			if d.Outcome == Routed && !d.Addr.IsValid() {
				t.Error("routed without an address")
			}
			if after, err := store.Lookup(t.Context(), key); err != nil || after != tc.after {
				t.Errorf("assignment then: %q (%v), want %q", after, err, tc.after)
			}
			if rec.decided != 1 || logs.FilterMessage("decision").Len() != 1 {
				t.Errorf("%d decisions counted, %d logged, want one each", rec.decided, logs.FilterMessage("decision").Len())
			}
			if n := logs.FilterMessage("auth failure").Len(); (n == 1) != (d.Outcome == Denied && d.Reason == BadPassword) {
				t.Errorf("%d lines of auth failure", n)
			}
			if len(d.ID) != 26 {
				t.Errorf("id %q", d.ID)
			}
		})
	}
}

func attributes(changes ...Change) fakeDirector {
	return func(*Query) (Verdict, error) { return Verdict{Changes: changes}, nil }
}

func upstream(u *Upstream, change ...func(*Request)) *Request {
	r := request(change...)
	r.Upstream = u
	return r
}

// What a policy may not set never gets into a decision.
func TestChangesThatCount(t *testing.T) {
	set := func(name string) Change { return Change{Attr: Attr{Name: name, Value: "evil"}} }
	var changes []Change
	for _, name := range slices.Concat(ownFields, identityFields, []string{"Proxy-Host", "forward_x"}) {
		changes = append(changes, set(name))
	}
	for _, tc := range []struct {
		name     string
		identity bool
		want     []string
	}{
		{"without allow_identity", false, []string{"forward_x"}},
		{"with allow_identity", true, []string{"master", "destuser", "forward_x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := settle(changes, tc.identity, []string{"host", "Proxy-Host"})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range out {
				names = append(names, c.Name)
			}
			if !slices.Equal(names, tc.want) {
				t.Errorf("left: %v, want %v", names, tc.want)
			}
		})
	}
}

// After a refused password the policy runs for its side effects alone: neither
// its acceptance nor its error changes the answer.
func TestRefusalIsFinal(t *testing.T) {
	for name, director := range map[string]fakeDirector{
		"accepts": selecting("127.0.0.2", 143),
		"fails":   func(*Query) (Verdict, error) { return Verdict{}, errors.New("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			p, err := New(Options{
				Verifier: fakeVerifier(func(*Request) (Identity, error) {
					return Identity{}, &Denial{By: "passdb:x", Reason: BadPassword, Text: "no", Delayed: true}
				}),
				Director: fakeDirector(func(q *Query) (Verdict, error) {
					asked = !q.Authenticated
					return director(q)
				}),
				Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Recorder: &recorder{}, Affinity: AffinityOff,
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := p.Handle(t.Context(), request()); d.Outcome != Denied || d.Reason != BadPassword || !d.Delayed || d.Text != "no" || !asked {
				t.Errorf("decision %+v, policy asked: %v", d, asked)
			}
		})
	}
}

type fakeGate struct {
	fakeDirector
	before func(*Query) (Verdict, error)
}

func (f fakeGate) Before(_ context.Context, q *Query) (Verdict, error) { return f.before(q) }

// What is asked before the password decides before it, and is not asked about
// look-ups.
func TestGate(t *testing.T) {
	for _, tc := range []struct {
		name    string
		r       *Request
		verdict Verdict
		err     error
		want    string
	}{
		{name: "lets through", want: "routed by policy:test: selected, verified 1"},
		{name: "refuses", verdict: Verdict{Refused: true, By: "policy:gate", Text: "no"}, want: "denied by policy:gate: policy, verified 0"},
		{name: "refuses what an upstream let in", r: upstream(&Upstream{User: "alice@example.org"}),
			verdict: Verdict{Refused: true, By: "policy:gate"}, want: "denied by policy:gate: policy, verified 0"},
		{name: "holds", verdict: Verdict{Hold: time.Second, By: "policy:gate"}, want: "held by policy:gate: policy, verified 0"},
		{name: "fails", err: &PolicyFault{Kind: PolicyBudget, Err: errors.New("boom")}, want: "tempfail by usher: policy_budget, verified 0"},
		{name: "an unknown error", err: errors.New("boom"), want: "tempfail by usher: policy_error, verified 0"},
		{name: "no look-ups", r: request(service("lmtp"), func(r *Request) { r.NoAuth, r.Lookup = true, true }),
			verdict: Verdict{Refused: true}, want: "routed by policy:test: selected, verified 0"},
		{name: "a bad name comes first", r: request(func(r *Request) { r.User = "a\tb" }),
			verdict: Verdict{Refused: true, By: "policy:gate"}, want: "denied by usher: bad_request, verified 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			verified := 0
			p, err := New(Options{
				Verifier: fakeVerifier(func(*Request) (Identity, error) {
					verified++
					return Identity{Driver: "passthrough"}, nil
				}),
				Director: fakeGate{selecting("127.0.0.2", 143), func(q *Query) (Verdict, error) {
					if q.Authenticated || q.View == nil || q.Request.ID == "" || q.Request.ID != q.ID {
						t.Errorf("asked with %+v", q)
					}
					return tc.verdict, tc.err
				}},
				Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Recorder: &recorder{}, Affinity: AffinityOff,
			})
			if err != nil {
				t.Fatal(err)
			}
			if tc.r == nil {
				tc.r = request()
			}
			d := p.Handle(t.Context(), tc.r)
			if got := fmt.Sprintf("%s by %s: %s, verified %d", d.Outcome, d.By, d.Reason, verified); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// Explain decides as Handle does and leaves nothing behind.
func TestExplain(t *testing.T) {
	store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: time.Minute, MaxEntries: 10})
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	p, err := New(Options{
		Verifier: fakeVerifier(func(*Request) (Identity, error) { panic("a dry run asks for no password") }),
		Director: selecting("127.0.0.2", 143), Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{},
		Assignments: store, Recorder: rec, Affinity: AffinityPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	d := p.Explain(t.Context(), request(), false, func(s string) { steps = append(steps, s) })
	if d.Outcome != Routed || store.Len() != 0 || rec.decided != 0 || rec.ran != 0 || len(steps) == 0 {
		t.Errorf("decision %+v, %d assignments, recorded %+v, steps %q", d, store.Len(), rec, steps)
	}
}

func TestDecisionLine(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	p, err := New(Options{
		Verifier: fakeVerifier(nil), Director: fakeDirector(nil), Backends: fakeBackends{}, Names: fakeNames{},
		Recorder: &recorder{}, Affinity: AffinityOff, Log: zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := request(func(r *Request) { r.Session = "St2K8"; r.TLS.Secured = true })
	p.Record(r, Decision{Outcome: Routed, By: "policy:director", Reason: Sticky, Host: "127.0.0.2", Port: 143,
		Logs: []Attr{{Name: "outcome", Value: "denied"}}})
	got := logs.All()[0].ContextMap()
	for k, want := range map[string]any{
		"adapter": "dovecot", "session": "St2K8", "service": "imap", "user": "alice@example.org", "rip": "192.0.2.7",
		"lip": "198.51.100.1", "tls": true, "mech": "PLAIN", "outcome": "routed", "backend": "127.0.0.2:143",
		"by": "policy:director", "reason": "sticky",
	} {
		if got[k] != want {
			t.Errorf("%s: %v, want %v", k, got[k], want)
		}
	}

	// A tempfail is a warning, unless it is one of many that were warned of.
	for _, tt := range []struct {
		d    Decision
		want zapcore.Level
	}{
		{Decision{Outcome: Routed}, zap.InfoLevel},
		{Decision{Outcome: TempFail, Reason: NoBackend}, zap.WarnLevel},
		{Decision{Outcome: TempFail, Reason: PolicyError, Err: &PolicyFault{Kind: PolicyError, Err: errors.New("x.lua:1: boom")}}, zap.WarnLevel},
		{Decision{Outcome: TempFail, Reason: PolicyError, Err: &PolicyFault{Kind: PolicyError, Err: errors.New("x.lua:1: boom"), Reported: true}}, zap.InfoLevel},
	} {
		logs.TakeAll()
		p.Record(r, tt.d)
		if got := logs.All()[0]; got.Level != tt.want || tt.d.Err != nil && got.ContextMap()["error"] != "x.lua:1: boom" {
			t.Errorf("%+v is logged as %+v", tt.d, got)
		}
	}
}

// After a refused password too a policy that is known to fail is no news.
func TestAfterRefusal_Reported(t *testing.T) {
	for _, known := range []bool{false, true} {
		core, logs := observer.New(zap.WarnLevel)
		p, err := New(Options{
			Verifier: fakeVerifier(func(*Request) (Identity, error) { return Identity{}, &Denial{By: "passdb:x", Reason: BadPassword} }),
			Director: fakeDirector(func(*Query) (Verdict, error) {
				return Verdict{}, &PolicyFault{Kind: PolicyError, Err: errors.New("boom"), Reported: known}
			}),
			Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Recorder: &recorder{}, Affinity: AffinityOff, Log: zap.New(core),
		})
		if err != nil {
			t.Fatal(err)
		}
		if d := p.Handle(t.Context(), request()); d.Outcome != Denied || (logs.Len() == 0) != known {
			t.Errorf("reported %v: %s, %d warnings", known, d.Outcome, logs.Len())
		}
	}
}
