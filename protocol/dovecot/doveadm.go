package dovecot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy"
	"usher/proxy/moves"
)

const (
	// doveadmTimeout bounds a question to doveadm and its answer.
	doveadmTimeout = 20 * time.Second
	// knownFor is how long a server is taken for the version that it was.
	knownFor = 10 * time.Minute
	// maxMasks is how many users are asked for one by one: for each Dovecot runs
	// through all its sessions. For more of them it tells all.
	maxMasks = 8
	// maxCommands bounds one request, maxNames the names in one command.
	maxCommands, maxNames = 100, 100
	// maxDoveadmName is the longest user name in bytes that is said to doveadm.
	maxDoveadmName = 1024
)

// DoveadmOptions are what a Doveadm is made of.
type DoveadmOptions struct {
	// URL is http://HOST:PORT or https://HOST:PORT, the HTTP API, or tcp:HOST:PORT,
	// the protocol that doveadm itself speaks. Required.
	URL string
	// APIKey is doveadm_api_key, for HTTP; Password is doveadm_password, instead.
	APIKey, Password proxy.Secret
	// Role says which sessions are listed: moves.Proxy those that are proxied,
	// moves.Backend those that end there. Required.
	Role moves.Role
	// TLS is for https. nil: certificates are verified by the system's roots.
	TLS *tls.Config
	// Timeout bounds a question and its answer. 0: 20 s.
	Timeout time.Duration
}

// A Doveadm lists and kicks sessions at a Dovecot, 2.3 or 2.4, whose doveadm it
// asks. It implements moves.Kicker and moves.Doubter.
//
// Names are exact. Where Dovecot takes a name for a pattern (all of 2.4, and
// backends of 2.3), who has `*` or `?` in it, or is a network, is listed and not
// kicked; the same goes for who would take others along: a process of a 2.3
// backend that serves other users too, a name that differs in its case alone.
type Doveadm struct {
	name    string
	role    moves.Role
	web     bool
	wire    doveadmWire
	timeout time.Duration
	secrets []proxy.Secret

	mu    sync.Mutex
	known doveadmDialect
	until time.Time // known is believed

	counted atomic.Bool // a 2.4 counted sessions in the last kick
}

var (
	_ moves.Kicker  = (*Doveadm)(nil)
	_ moves.Doubter = (*Doveadm)(nil)
)

// A doveadmDialect is which commands a version has, and what they print.
type doveadmDialect int

const (
	// doveadm23 has `proxy list` and `proxy kick` for proxied sessions, `who` and
	// `kick` for others.
	doveadm23 doveadmDialect = iota + 1
	// doveadm24 has `who` and `kick` for all.
	doveadm24
)

// A doveadmCommand is one with its parameters.
type doveadmCommand struct {
	name  string   // as doveadm's users write it
	each  bool     // who: a row for each session
	host  string   // kick: dest-host; "": any
	users bool     // names are `user`, not `mask`
	names []string // none: the parameter is left out
}

// A doveadmReply is what a command printed.
type doveadmReply struct {
	values []byte // of all rows, tab-escaped, a TAB behind each
	width  int    // of a row, in values; 0: unknown
	fault  string // "": none; else as doveadm names it: NOTFOUND, USAGE, …
	said   string // what the server's log says on it, where it is shown
}

const (
	// notFound is the fault of a kick that found nobody (DOVEADM_EX_NOTFOUND).
	notFound = "NOTFOUND"
	// tempFail (EX_TEMPFAIL) is also that of a `proxy kick` which a login process did
	// not answer, as one does that ends just then, with its last session (ipc-group.c).
	// All others have done it.
	tempFail = "TEMPFAIL"
)

// A doveadmWire is a way to ask doveadm.
type doveadmWire interface {
	dialect(ctx context.Context) (doveadmDialect, error)
	// run runs commands in order; a reply for each.
	run(ctx context.Context, commands []doveadmCommand) ([]doveadmReply, error)
}

// NewDoveadm makes a Doveadm and asks nothing.
func NewDoveadm(opt DoveadmOptions) (*Doveadm, error) {
	d := &Doveadm{name: opt.URL, role: opt.Role, timeout: opt.Timeout, secrets: []proxy.Secret{opt.APIKey, opt.Password}}
	if d.timeout == 0 {
		d.timeout = doveadmTimeout
	}
	if d.role != moves.Proxy && d.role != moves.Backend {
		return nil, fmt.Errorf("doveadm: role %.20q; expected proxy or backend", d.role)
	}
	if addr, ok := strings.CutPrefix(opt.URL, "tcp:"); ok {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("doveadm: %w", err)
		}
		if opt.Password.IsEmpty() {
			return nil, fmt.Errorf("doveadm %s: no password", opt.URL)
		}
		d.wire = &doveadmTCP{addr: addr, password: opt.Password}
		return d, nil
	}
	u, err := url.Parse(opt.URL)
	if err != nil || u.User != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("doveadm: bad URL; expected http://HOST:PORT, https://HOST:PORT or tcp:HOST:PORT")
	}
	d.name = u.Scheme + "://" + u.Host
	if opt.APIKey.IsEmpty() && opt.Password.IsEmpty() {
		return nil, fmt.Errorf("doveadm %s: no key and no password", d.name)
	}
	d.web = true
	d.wire = newDoveadmHTTP(d.name, opt)
	return d, nil
}

// Name implements moves.Kicker: the URL.
func (d *Doveadm) Name() string { return d.name }

// Role implements moves.Kicker.
func (d *Doveadm) Role() moves.Role { return d.role }

// Doubt implements moves.Doubter. Up to 2.4.4 a login process that serves one
// client only ignores kicks (fixed by Dovecot's commit 42e0c5753b).
func (d *Doveadm) Doubt() string {
	if d.role != moves.Proxy || !d.counted.Load() {
		return ""
	}
	return d.name + " counts kicks and ends no session: Dovecot 2.4 up to 2.4.4 needs client_limit above 1 in service imap-login (deploy/dovecot-2.4 has it)"
}

// Sessions implements moves.Kicker.
func (d *Doveadm) Sessions(ctx context.Context, users []string) ([]moves.Session, error) {
	out, err := d.sessions(ctx, users)
	if err != nil {
		return nil, d.explain(ctx, "list sessions", err)
	}
	return out, nil
}

func (d *Doveadm) sessions(ctx context.Context, users []string) ([]moves.Session, error) {
	for _, user := range users {
		if err := d.sayable(user); err != nil {
			return nil, err
		}
	}
	dialect, err := d.dialect(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.list(ctx, dialect, users)
	if err != nil {
		return nil, err
	}
	named := asSet(users)
	var out []moves.Session
	for _, r := range rows {
		if (len(users) > 0 && !named[r.user]) || (d.role == moves.Proxy && r.host == "") {
			continue
		}
		out = append(out, moves.Session{User: r.user, Service: r.service, RemoteIP: r.remote, Host: r.host, At: d.name})
	}
	return out, nil
}

// list returns at least the sessions of these users and of those whose names
// differ in their case alone; none given: all.
func (d *Doveadm) list(ctx context.Context, dialect doveadmDialect, users []string) ([]doveadmRow, error) {
	if dialect == doveadm23 && d.role == moves.Proxy {
		replies, err := d.run(ctx, []doveadmCommand{{name: "proxy list"}})
		if err != nil {
			return nil, err
		}
		return parseProxyList(replies[0].values, replies[0].width)
	}
	if len(users) == 0 || len(users) > maxMasks || slices.ContainsFunc(users, isMask) {
		users = []string{"*"}
	}
	// One mask each: 2.3 and 2.4 up to 2.4.1 take no more.
	var commands []doveadmCommand
	for _, user := range users {
		commands = append(commands, doveadmCommand{name: "who", each: true, names: []string{user}})
	}
	replies, err := d.run(ctx, commands)
	if err != nil {
		return nil, err
	}
	var rows []doveadmRow
	for _, r := range replies {
		more, err := parseWho(r.values, dialect, r.width)
		if err != nil {
			return nil, err
		}
		if rows = append(rows, more...); len(rows) > moves.MaxSessions {
			return nil, errManySessions
		}
	}
	return rows, nil
}

// Kick implements moves.Kicker. A 2.3 proxy can't tell by host: who has a session
// there is kicked, with all his sessions. A backend does not know of hosts.
func (d *Doveadm) Kick(ctx context.Context, users []string, host string) error {
	if err := d.kick(ctx, users, host); err != nil {
		return d.explain(ctx, "kick", err)
	}
	return nil
}

func (d *Doveadm) kick(ctx context.Context, users []string, host string) error {
	if len(users) == 0 {
		return errors.New("no user is named")
	}
	if host != "" {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return fmt.Errorf("%.80q is no IP address", host)
		}
		host = addr.Unmap().String()
	}
	for _, user := range users {
		if err := d.sayable(user); err != nil {
			return err
		}
	}
	dialect, err := d.dialect(ctx)
	if err != nil {
		return err
	}
	users = slices.Compact(slices.Sorted(slices.Values(users)))
	switch {
	case dialect == doveadm23 && d.role == moves.Proxy:
		return d.kickProxied(ctx, users, host)
	case dialect == doveadm23:
		return d.kickProcesses(ctx, users)
	}
	return d.kick24(ctx, users, host)
}

// kickProxied is for a 2.3 proxy, whose `proxy kick` compares whole names
// (login-proxy.c, want_kick_virtual_user). With host it would not look at names.
func (d *Doveadm) kickProxied(ctx context.Context, users []string, host string) error {
	if host != "" {
		rows, err := d.list(ctx, doveadm23, users)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, r := range rows {
			there[r.user] = there[r.user] || r.host == host
		}
		users = slices.DeleteFunc(users, func(user string) bool { return !there[user] })
	}
	var commands []doveadmCommand
	for some := range slices.Chunk(users, maxNames) {
		commands = append(commands, doveadmCommand{name: "proxy kick", users: true, names: some})
	}
	_, err := d.run(ctx, commands)
	return err
}

// kickProcesses is for a 2.3 backend, whose `kick` ends the processes in which it
// finds users by a pattern without regard to case, with whoever else they serve
// (doveadm-kick.c).
func (d *Doveadm) kickProcesses(ctx context.Context, users []string) error {
	rows, err := d.list(ctx, doveadm23, nil)
	if err != nil {
		return err
	}
	named := asSet(users)
	shared := map[string]bool{}   // by process: others are in it
	variants := map[string]bool{} // names of others, in lower case
	for _, r := range rows {
		if !named[r.user] {
			shared[r.pid] = true
			variants[strings.ToLower(r.user)] = true
		}
	}
	lives, endangers := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		if named[r.user] {
			lives[r.user] = true
			endangers[r.user] = endangers[r.user] || shared[r.pid]
		}
	}
	var commands []doveadmCommand
	var faults []error
	for _, user := range users {
		switch {
		case !lives[user]:
		case isMask(user):
			faults = append(faults, maskError(user))
		case variants[strings.ToLower(user)]:
			faults = append(faults, variantError(user))
		case endangers[user]:
			faults = append(faults, fmt.Errorf("%.80q is not kicked: a process of Dovecot 2.3 that serves the user has sessions of others too, which would end with it (imap-hibernate, or a client_limit above 1)", user))
		default:
			commands = append(commands, doveadmCommand{name: "kick", names: []string{user}})
		}
	}
	_, err = d.run(ctx, commands)
	return errors.Join(append(faults, err)...)
}

// kick24 is for 2.4, which takes a name that is no pattern as it is, but for with a
// host: then it compares without regard to case (doveadm-kick.c).
func (d *Doveadm) kick24(ctx context.Context, users []string, host string) error {
	if d.role == moves.Backend {
		host = ""
	}
	there, elsewhere, variants := map[string]bool{}, map[string]bool{}, map[string]bool{}
	if host != "" {
		rows, err := d.list(ctx, doveadm24, users)
		if err != nil {
			return err
		}
		named := asSet(users)
		for _, r := range rows {
			switch {
			case !named[r.user] && r.host == host:
				variants[strings.ToLower(r.user)] = true
			case r.host == host:
				there[r.user] = true
			default:
				elsewhere[r.user] = true
			}
		}
	}
	var commands []doveadmCommand
	var faults []error
	for _, user := range users {
		c := doveadmCommand{name: "kick", names: []string{user}}
		switch {
		case host != "" && !there[user]:
			continue
		case isMask(user):
			faults = append(faults, maskError(user))
			continue
		case elsewhere[user] && variants[strings.ToLower(user)]:
			faults = append(faults, variantError(user))
			continue
		case elsewhere[user]:
			c.host = host
		}
		commands = append(commands, c)
	}
	replies, err := d.run(ctx, commands)
	counted := false
	for _, r := range replies {
		n, bad := strconv.Atoi(strings.TrimSuffix(string(r.values), "\t"))
		counted = counted || (bad == nil && n > 0)
	}
	d.counted.Store(counted)
	return errors.Join(append(faults, err)...)
}

func maskError(user string) error {
	return fmt.Errorf("%.80q is not kicked: Dovecot takes the name for a pattern of names or for a network", user)
}

func variantError(user string) error {
	return fmt.Errorf("%.80q is not kicked: a user whose name differs in its case alone would be kicked too", user)
}

// run runs commands, as many requests as it takes. A kick that found nobody, or not
// all login processes, is no fault: lists show what it came to.
func (d *Doveadm) run(ctx context.Context, commands []doveadmCommand) ([]doveadmReply, error) {
	var out []doveadmReply
	for some := range slices.Chunk(commands, maxCommands) {
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		replies, err := d.wire.run(ctx, some)
		cancel()
		if err != nil {
			d.forget()
			return out, err
		}
		for i, r := range replies {
			name := some[i].name
			if r.fault == "" || r.fault == notFound || r.fault == tempFail && name == "proxy kick" {
				continue
			}
			if r.said != "" {
				r.fault += ": " + r.said
			}
			d.forget()
			return out, fmt.Errorf("the server does not do `%s`: %s", name, r.fault)
		}
		out = append(out, replies...)
	}
	return out, nil
}

// dialect asks the server which version it is, unless it did a while ago.
func (d *Doveadm) dialect(ctx context.Context) (doveadmDialect, error) {
	d.mu.Lock()
	known, until := d.known, d.until
	d.mu.Unlock()
	if time.Now().Before(until) {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	known, err := d.wire.dialect(ctx)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known, d.until = known, time.Now().Add(knownFor)
	return known, nil
}

// forget has the server asked anew: it may be another version now.
func (d *Doveadm) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Time{}
}

func asSet(words []string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}
