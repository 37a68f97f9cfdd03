package dovecot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An oracle is a Handler whose answer the first part of the user name tells,
// up to a `.` or `@`: see verdicts. All that it is asked and told it counts.
type oracle struct {
	mu       sync.Mutex
	asked    map[string]int // Handle, by user
	gates    map[string]chan struct{}
	recorded []proxy.Decision
}

func newOracle() *oracle {
	return &oracle{asked: map[string]int{}, gates: map[string]chan struct{}{}}
}

// gate is closed when the user's decision may be made.
func (o *oracle) gate(user string) chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gates[user] == nil {
		o.gates[user] = make(chan struct{})
	}
	return o.gates[user]
}

func (o *oracle) Handle(ctx context.Context, r *proxy.Request) proxy.Decision {
	user := r.Account()
	o.mu.Lock()
	o.asked[user]++
	n := o.asked[user]
	o.mu.Unlock()
	kind := user
	if i := strings.IndexAny(user, ".@"); i >= 0 {
		kind = user[:i]
	}
	if kind == "slow" {
		select {
		case <-o.gate(user):
		case <-ctx.Done():
			return proxy.Decision{User: user, Reason: proxy.PolicyTimeout}
		}
	}
	d := proxy.Decision{
		Outcome: proxy.Routed, User: user, Password: r.Password,
		Host: "127.0.0.2", Port: 143, Addr: netip.MustParseAddr("127.0.0.2"),
	}
	if f := verdicts[kind]; f != nil {
		f(r, n, &d)
	}
	if r.NoLogin && d.Outcome == proxy.Routed {
		d = proxy.Decision{Outcome: proxy.Passed, Reason: proxy.AuthOnly, User: user}
	}
	return d
}

func (o *oracle) Record(_ *proxy.Request, d proxy.Decision) proxy.Decision {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recorded = append(o.recorded, d)
	return d
}

// records returns how often a decision with that outcome and reason was recorded.
func (o *oracle) records(out proxy.Outcome, why proxy.Reason) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, d := range o.recorded {
		if d.Outcome == out && d.Reason == why {
			n++
		}
	}
	return n
}

func at(host, addr string, port int) func(*proxy.Request, int, *proxy.Decision) {
	return func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Host, d.Addr, d.Port = host, netip.MustParseAddr(addr), port
	}
}

func entry(s proxy.Server) func(*proxy.Request, int, *proxy.Decision) {
	return func(_ *proxy.Request, _ int, d *proxy.Decision) { d.Entry = &proxy.Entry{Server: &s} }
}

func outcome(out proxy.Outcome, why proxy.Reason, text string) func(*proxy.Request, int, *proxy.Decision) {
	return func(_ *proxy.Request, _ int, d *proxy.Decision) {
		*d = proxy.Decision{Outcome: out, Reason: why, Text: text, User: d.User}
	}
}

func set(name, value string) proxy.Change {
	return proxy.Change{Attr: proxy.Attr{Name: name, Value: value}}
}

// verdicts say what becomes of a user; all others go to 127.0.0.2:143. The
// function gets the decision for those and how often the user was asked for.
var verdicts = map[string]func(r *proxy.Request, n int, d *proxy.Decision){
	"named":    at("mail2.example.org", "192.0.2.2", 143),
	"absolute": at("mail2.example.org.", "192.0.2.2", 143),
	"six":      at("2001:db8::2", "2001:db8::2", 143),
	"noport":   at("127.0.0.2", "127.0.0.2", 0),
	"waited": func(r *proxy.Request, _ int, d *proxy.Decision) {
		*d = proxy.Decision{Outcome: proxy.Denied, Reason: proxy.BadPassword, User: r.User, Delayed: true}
	},
	"self": outcome(proxy.Passed, proxy.IsSelf, ""),

	"tls":         entry(proxy.Server{TLS: true}),
	"tlsany":      entry(proxy.Server{TLS: true, TLSSkipVerify: true}),
	"starttls":    entry(proxy.Server{StartTLS: true}),
	"starttlsany": entry(proxy.Server{StartTLS: true, TLSSkipVerify: true}),
	"tlsset": func(r *proxy.Request, n int, d *proxy.Decision) {
		entry(proxy.Server{TLS: true})(r, n, d)
		d.Changes = []proxy.Change{set("starttls", "any-cert")}
	},

	"driver": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.User, d.Password = "driver@example.net", proxy.NewSecret("s3cret of\tthe driver")
		d.Fields = []proxy.Attr{
			{Name: "destuser", Value: "d"}, {Name: "proxy_nopipelining", Bare: true}, {Name: "forward_a", Value: "1"},
			{Name: "host", Value: "evil"}, {Name: "pass", Value: "evil"}, {Name: "nologin", Bare: true},
		}
	},
	"changed": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Fields = []proxy.Attr{{Name: "proxy_timeout", Value: "30"}, {Name: "forward_a", Value: "1"}, {Name: "forward_b", Value: "2"}}
		d.Changes = []proxy.Change{
			set("proxy_timeout", "5"), {Attr: proxy.Attr{Name: "forward_a"}, Remove: true},
			set("forward_c", "tab\there\r\nx\x01y\x00=z"), {Attr: proxy.Attr{Name: "proxy_not_trusted", Bare: true}},
		}
	},
	"master": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Changes = []proxy.Change{set("master", "m")}
	},
	"huge": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		for _, name := range []string{"forward_a", "forward_b", "forward_c", "forward_d"} {
			d.Changes = append(d.Changes, set(name, strings.Repeat("x", 4096)))
		}
	},

	"wrong":    outcome(proxy.Denied, proxy.BadPassword, ""),
	"refused":  outcome(proxy.Denied, proxy.PolicyRefused, ""),
	"told":     outcome(proxy.Denied, proxy.PolicyRefused, "Your\r\nmailbox\tis\x7f on the move."),
	"disabled": outcome(proxy.Denied, proxy.UserDisabled, ""),
	"broken":   outcome(proxy.TempFail, proxy.PolicyError, "never shown"),

	"held": func(_ *proxy.Request, n int, d *proxy.Decision) {
		if n < 3 {
			*d = proxy.Decision{Outcome: proxy.Held, Wait: time.Millisecond, User: d.User}
		}
	},
	"nomech": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Fields = []proxy.Attr{{Name: "proxy_mech", Value: "PLAIN"}}
		d.Changes = []proxy.Change{{Attr: proxy.Attr{Name: "proxy_mech"}, Remove: true}}
	},
	"destuser": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Changes = []proxy.Change{set("destuser", "x,a=victim")}
	},
	"mech": func(_ *proxy.Request, _ int, d *proxy.Decision) {
		d.Fields = []proxy.Attr{{Name: "proxy_mech", Value: "PLAIN"}}
	},

	"unknown": outcome(proxy.Denied, proxy.UnknownUser, ""),

	"kept": outcome(proxy.Held, proxy.ByOperator, ""),
}

func testOptions(h Handler) Options {
	return Options{
		Handler: h, Mechanisms: []string{"plain", "LOGIN"},
		Refresh: 450 * time.Second, HoldLimit: time.Minute, MaxOutstanding: 1000, Grace: 10 * time.Second,
	}
}

// A directory knows all users but `unknown`, and lists many.
type directory struct{}

func (directory) User(_ context.Context, r *proxy.Request) ([]proxy.Attr, error) {
	switch r.User {
	case "unknown":
		return nil, fmt.Errorf("directory: %w", proxy.ErrUnknownUser)
	case "unserved":
		return nil, fmt.Errorf("directory: %w", proxy.ErrNotServed)
	case "broken":
		return nil, errors.New("directory: out of order")
	case "huge":
		return []proxy.Attr{{Name: "home", Value: strings.Repeat("x", maxUserdbLine)}}, nil
	}
	return []proxy.Attr{{Name: "uid", Value: "1500"}, {Name: "home", Value: "/m/t\tab"}, {Name: "anonymous", Bare: true}}, nil
}

func (directory) List(_ context.Context, mask string, yield func(string) bool) error {
	if mask == "broken" {
		yield("half")
		return errors.New("directory: out of order")
	}
	for i := range 100000 {
		if user := fmt.Sprintf("u%d", i); (mask == "" || mask == user) && !yield(user) {
			return nil
		}
	}
	return nil
}
