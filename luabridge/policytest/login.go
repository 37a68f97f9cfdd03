package policytest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// readLogin makes a request of what a test says of it. The account is "" where it
// is the user's name as typed.
func readLogin(kind string, t *lua.LTable) (r *proxy.Request, account string, err error) {
	r = &proxy.Request{
		Adapter: "dovecot", Service: "imap", Method: "plain", Session: "test", Password: proxy.NewSecret("secret"),
		Client: netip.MustParseAddrPort("192.0.2.7:49152"), Local: netip.MustParseAddrPort("198.51.100.1:143"),
	}
	switch kind {
	case "lookup":
		r.Service, r.NoAuth, r.Lookup, r.Password = "lmtp", true, true, proxy.NewSecret("")
	case "nginx":
		r.Adapter, r.AddressOnly, r.Attempt = "nginx", true, 1
	}
	address := func(v lua.LValue, to *netip.AddrPort) error {
		a, err := netip.ParseAddr(v.String())
		if err != nil {
			return fmt.Errorf("%s: expected an IP address", show(v))
		}
		*to = netip.AddrPortFrom(a, to.Port())
		return nil
	}
	texts := map[string]*string{
		"user": &r.User, "account": &account, "protocol": &r.Service, "method": &r.Method, "session": &r.Session,
		"client_host": &r.ClientHost, "client_id": &r.ClientID,
	}
	for _, f := range fields(t) {
		var err error
		if to := texts[f.name]; to != nil {
			*to, err = readText(f.value)
		} else {
			switch f.name {
			case "client_ip":
				err = address(f.value, &r.Client)
			case "local_ip":
				err = address(f.value, &r.Local)
			case "secured":
				r.TLS.Secured, err = readBool(f.value)
			case "password":
				var text string
				text, err = readText(f.value)
				r.Password = proxy.NewSecret(text)
			case "authenticated":
				var good bool
				if good, err = readBool(f.value); !good {
					r.Password = proxy.NewSecret(wrongPassword)
				}
			default:
				return nil, "", unknown(kind+" has no", f.name, append(keys(texts), "client_ip", "local_ip", "secured", "password", "authenticated"))
			}
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s.%s: %w", kind, f.name, err)
		}
	}
	if r.User == "" {
		return nil, "", fmt.Errorf("%s needs a user", kind)
	}
	r.Service = strings.ToLower(r.Service)
	r.Protocol = proxy.ProtocolOf(r.Service)
	return r, account, nil
}

// A decision is a proxy.Decision as tests have it, and how it came about.
type decision struct {
	proxy.Decision
	trace []string
}

// handle lets the pipeline decide on a request of a user whose final name is
// account, or, where that is "", as typed.
func (w *world) handle(ctx context.Context, r *proxy.Request, account string) (*decision, error) {
	w.trace, w.account = nil, account
	d := w.pipeline.Handle(ctx, r)
	if names := w.missing.take(); names != nil {
		return nil, fmt.Errorf("the policy asked for what this test does not give: %s", strings.Join(names, "; "))
	}
	return &decision{d, w.trace}, nil
}

// decisionFields are those that tests can read.
var decisionFields = []string{"outcome", "host", "port", "by", "reason", "text", "error", "wait", "user", "attributes", "logs"}

// table is the decision for Lua.
func (d *decision) table(L *lua.LState) *lua.LTable {
	t := L.NewTable()
	text := func(name, v string) {
		if v != "" {
			t.RawSetString(name, lua.LString(v))
		}
	}
	text("outcome", d.Outcome.String())
	text("host", d.Host)
	text("by", d.By)
	text("reason", string(d.Reason))
	text("text", d.Text)
	text("user", d.User)
	if d.Err != nil {
		text("error", d.Err.Error())
	}
	if d.Port != 0 {
		t.RawSetString("port", lua.LNumber(d.Port))
	}
	if d.Wait != 0 {
		t.RawSetString("wait", lua.LNumber(d.Wait.Seconds()))
	}
	attributes, logs := L.NewTable(), L.NewTable()
	for _, c := range d.Changes {
		switch {
		case c.Remove:
			attributes.RawSetString(c.Name, lua.LFalse)
		case c.Bare:
			attributes.RawSetString(c.Name, lua.LTrue)
		default:
			attributes.RawSetString(c.Name, lua.LString(c.Value))
		}
	}
	for _, a := range d.Logs {
		logs.RawSetString(a.Name, lua.LString(a.Value))
	}
	t.RawSetString("attributes", attributes)
	t.RawSetString("logs", logs)
	return t
}

// String is the decision in one line: what, by whom and why.
func (d *decision) String() string {
	s := d.Outcome.String()
	switch d.Outcome {
	case proxy.Routed:
		s += " to " + proxy.HostPort(d.Host, d.Port)
	case proxy.Held:
		s += fmt.Sprintf(" for %g s", d.Wait.Seconds())
	}
	s += fmt.Sprintf(" (by %s, reason %s)", d.By, d.Reason)
	if d.Text != "" {
		s += fmt.Sprintf(", text %q", d.Text)
	}
	if d.Err != nil {
		s += ", error: " + d.Err.Error()
	}
	return s
}

func seconds(n lua.LNumber) time.Duration { return time.Duration(float64(n) * float64(time.Second)) }
