package dovecot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"usher/proxy"
)

// PassdbOptions configure a Passdb.
type PassdbOptions struct {
	// Address is an auth server's socket for authentication (auth-client, or
	// login/login): a path of a unix socket, or host:port.
	Address string
	// UserdbAddress is its socket for look-ups without passwords (auth-userdb).
	// Empty: none.
	UserdbAddress string
	// MaxOutstanding bounds the unanswered requests.
	MaxOutstanding int
	Log            *zap.Logger // nil: none
}

// A Passdb is the password driver that has a Dovecot auth server compare
// passwords. It implements passdb.Driver and passdb.Directory.
type Passdb struct {
	auth   *authClient
	userdb *userdbClient // nil: none
}

// NewPassdb returns a driver that answers as long as its Run runs.
func NewPassdb(opt PassdbOptions) (*Passdb, error) {
	if opt.MaxOutstanding < 1 {
		return nil, errors.New("dovecot: outstanding requests of a passdb are under 1")
	}
	log := opt.Log
	if log == nil {
		log = zap.NewNop()
	}
	p := &Passdb{auth: newAuthClient(opt.Address, opt.MaxOutstanding, log.Named("passdb"))}
	if opt.UserdbAddress != "" {
		p.userdb = newUserdbClient(opt.UserdbAddress, log.Named("passdb"))
	}
	return p, nil
}

// Run keeps the connection to the auth server until ctx ends.
func (p *Passdb) Run(ctx context.Context) error { return p.auth.Run(ctx) }

// Name implements passdb.Driver.
func (*Passdb) Name() string { return "dovecot" }

// Verifies implements passdb.Driver.
func (*Passdb) Verifies() bool { return true }

// Lookup implements passdb.Driver. A refusal says that it has waited: an auth
// server is late with them by itself (auth_failure_delay). Methods whose
// challenge was not the auth server's (apop, cram-md5) are refused as bad
// requests, as is what does not fit into a line.
func (p *Passdb) Lookup(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	mech, resp, last, err := p.initial(r)
	if err != nil {
		return proxy.Identity{}, err
	}
	params := authParams(r, mech, resp)
	if len("AUTH\t4294967295\t")+len(mech)+len(params)+len("\t\n") > maxAuthLine {
		return proxy.Identity{}, p.deny(proxy.BadRequest)
	}
	a, err := p.auth.ask(ctx, mech, params, last)
	if err != nil {
		return proxy.Identity{}, fmt.Errorf("%s: %w", p.auth.address, err)
	}
	id, err := p.read(a)
	if err != nil && !errors.Is(err, proxy.ErrDenied) {
		err = fmt.Errorf("%s: %w", p.auth.address, err)
	}
	return id, err
}

func (p *Passdb) deny(why proxy.Reason) error {
	return &proxy.Denial{By: "passdb:" + p.Name(), Reason: why}
}

// initial returns the mechanism that carries what r shows, its initial response,
// and what a client says to a server that explains a refusal.
func (p *Passdb) initial(r *proxy.Request) (mech, resp string, last *string, err error) {
	secret := r.Password.Reveal()
	switch r.Method {
	case "plain", "login", "xoauth2", "oauthbearer":
		if secret == "" {
			return "", "", nil, p.deny(proxy.BadPassword)
		}
	}
	switch r.Method {
	case "plain", "login":
		if strings.IndexByte(r.User, 0) >= 0 || strings.IndexByte(secret, 0) >= 0 {
			return "", "", nil, p.deny(proxy.BadRequest)
		}
		return "PLAIN", "\x00" + r.User + "\x00" + secret, nil, nil
	case "xoauth2":
		if !visible(secret) {
			return "", "", nil, p.deny(proxy.BadRequest)
		}
		empty := ""
		return "XOAUTH2", "user=" + r.User + "\x01auth=Bearer " + secret + "\x01\x01", &empty, nil
	case "oauthbearer":
		if !visible(secret) {
			return "", "", nil, p.deny(proxy.BadRequest)
		}
		ack := base64.StdEncoding.EncodeToString([]byte{1}) // RFC 7628 section 3.2.3
		return "OAUTHBEARER", "n,a=" + saslName.Replace(r.User) + ",\x01auth=Bearer " + secret + "\x01\x01", &ack, nil
	case "external":
		// Whoever can name a certificate without having shown one is in.
		if r.TLS.ClientVerify != "SUCCESS" || r.TLS.ClientCN == "" {
			return "", "", nil, p.deny(proxy.BadRequest)
		}
		if r.User == r.TLS.ClientCN {
			return "EXTERNAL", "", nil, nil
		}
		return "EXTERNAL", r.User, nil, nil
	}
	return "", "", nil, p.deny(proxy.BadRequest)
}

// saslName escapes a name in a GS2 header (RFC 5801 section 4).
var saslName = strings.NewReplacer("=", "=3D", ",", "=2C")

// visible reports whether a token has visible ASCII characters only (RFC 6750
// section 2.1 has less).
func visible(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] >= 0x7f {
			return false
		}
	}
	return true
}

// authParams are the parameters of an AUTH. A certificate's name goes with
// EXTERNAL alone: beside any other mechanism an auth server takes it for the user.
func authParams(r *proxy.Request, mech, resp string) string {
	b := appendParams(nil, r)
	if mech == "EXTERNAL" {
		b = appendField(append(b, "\tvalid-client-cert"...), "cert_username", r.TLS.ClientCN)
	}
	if r.NoLogin {
		b = append(b, "\tnologin"...)
	}
	b = append(b, "\tresp="...)
	return string(base64.StdEncoding.AppendEncode(b, []byte(resp)))
}

// appendParams appends the parameters that AUTH and PASS have in common.
func appendParams(b []byte, r *proxy.Request) []byte {
	service := r.Service
	if service == "" {
		service = r.Protocol
	}
	b = appendEscaped(append(b, "service="...), service)
	if r.TLS.Secured {
		b = append(b, "\tsecured"...)
	}
	if r.Session != "" {
		b = appendField(b, "session", r.Session)
	}
	b = appendEnd(b, "lip", "lport", r.Local)
	return appendEnd(b, "rip", "rport", r.Client)
}

// appendEnd appends one end of a connection, as far as it is known.
func appendEnd(b []byte, addr, port string, end netip.AddrPort) []byte {
	if !end.Addr().IsValid() {
		return b
	}
	b = appendField(b, addr, end.Addr().Unmap().WithZone("").String())
	if end.Port() != 0 {
		b = appendField(b, port, strconv.Itoa(int(end.Port())))
	}
	return b
}

// errNoUser: an OK that names nobody.
var errNoUser = errors.New("the auth server's answer names no user")

// read turns an answer into an identity or an error.
func (p *Passdb) read(a answer) (proxy.Identity, error) {
	if a.verb == "FAIL" {
		return proxy.Identity{}, p.refusal(a.rest)
	}
	id, reason, disabled := parseIdentity(a.rest)
	switch {
	case id.User == "":
		return proxy.Identity{}, errNoUser
	case disabled:
		return proxy.Identity{}, &proxy.Denial{By: "passdb:" + p.Name(), Reason: proxy.UserDisabled, Text: reason, Delayed: true}
	}
	id.Driver, id.Verified = p.Name(), true
	return id, nil
}

// notKept are fields of an auth server's answer that say nothing to whoever is
// answered by usher.
var notKept = []string{"proxy", "proxy_refresh", "lip", "lport", "original_user", "auth_user", "resp"}

// parseIdentity reads the fields of an OK or PASS. disabled: the user may not log
// in (nologin), for that reason.
func parseIdentity(rest string) (id proxy.Identity, reason string, disabled bool) {
	reasonAt := -1
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		name, value, eq := strings.Cut(field, "=")
		value = unescape(value)
		switch {
		case name == "":
		case name == "user":
			id.User = value
		case name == "pass":
			id.Password = proxy.NewSecret(value)
		case name == "nologin":
			disabled = true
		case slices.Contains(notKept, name):
		default:
			a := proxy.Attr{Name: name, Value: value, Bare: !eq}
			i := slices.IndexFunc(id.Fields, func(o proxy.Attr) bool { return o.Name == name })
			if i < 0 {
				i = len(id.Fields)
				id.Fields = append(id.Fields, a)
			}
			id.Fields[i] = a // the last one counts
			if name == "reason" {
				reasonAt = i
			}
		}
	}
	if disabled && reasonAt >= 0 {
		reason = id.Fields[reasonAt].Value
	}
	return id, reason, disabled
}

// refusal turns what stands behind a FAIL's number into an error.
func (p *Passdb) refusal(rest string) error {
	d := &proxy.Denial{By: "passdb:" + p.Name(), Reason: proxy.BadPassword, Delayed: true}
	temporary := false
	for field := range strings.SplitSeq(rest, "\t") {
		name, value, _ := strings.Cut(field, "=")
		value = unescape(value)
		switch {
		case name == "reason":
			d.Text = value
		case name == "temp", name == "code" && value == "temp_fail":
			temporary = true
		case name == "code" && value == "invalid_base64":
			temporary = true // it was ours
		case name == "code" && value == "user_disabled", name == "user_disabled":
			d.Reason = proxy.UserDisabled
		}
	}
	switch {
	case temporary && d.Text != "":
		return fmt.Errorf("the auth server says: %s", oneLine(d.Text))
	case temporary:
		return errors.New("the auth server has a temporary failure")
	}
	return d
}

var errNoUserdb = errors.New("userdb_address is missing: users can't be looked up without their passwords")

// Find implements passdb.Directory: a PASS.
func (p *Passdb) Find(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	if p.userdb == nil {
		return proxy.Identity{}, errNoUserdb
	}
	rest, err := p.userdb.look(ctx, "PASS", r)
	if err != nil {
		return proxy.Identity{}, err
	}
	id, _, _ := parseIdentity(rest)
	if id.User == "" {
		return proxy.Identity{}, fmt.Errorf("%s: %w", p.userdb.address, errNoUser)
	}
	id.Driver, id.Password = p.Name(), proxy.Secret{} // nobody logs in
	return id, nil
}

// User implements passdb.Directory.
func (p *Passdb) User(ctx context.Context, r *proxy.Request) ([]proxy.Attr, error) {
	if p.userdb == nil {
		return nil, proxy.ErrNotServed
	}
	rest, err := p.userdb.look(ctx, "USER", r)
	if err != nil {
		return nil, err
	}
	name, rest, _ := strings.Cut(rest, "\t")
	if name = unescape(name); name == "" {
		return nil, fmt.Errorf("%s: %w", p.userdb.address, errNoUser)
	}
	out := []proxy.Attr{{Name: "user", Value: name}}
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		if key, value, eq := strings.Cut(field, "="); key != "" {
			out = append(out, proxy.Attr{Name: key, Value: unescape(value), Bare: !eq})
		}
	}
	return out, nil
}

// List implements passdb.Directory.
func (p *Passdb) List(ctx context.Context, mask string, yield func(user string) bool) error {
	if p.userdb == nil {
		return proxy.ErrNotServed
	}
	return p.userdb.list(ctx, mask, yield)
}
