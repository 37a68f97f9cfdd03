package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// demoTimeout bounds each login of the demo.
const demoTimeout = 10 * time.Second

// A demo is one run of `usher demo`.
type demo struct {
	once, json, verbose bool
	program             string // how the lines to try call usher
	out, errOut         io.Writer
}

// A demoReport is what a demo has shown, as --json prints it.
type demoReport struct {
	Version  string        `json:"version"`
	Backends []demoServer  `json:"backends"`
	Logins   []*demoResult `json:"logins"`
	Usher    *demoPlaces   `json:"usher,omitempty"` // when it stays up
}

type demoServer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// A demoResult is what became of one login.
type demoResult struct {
	User     string `json:"user"`
	Protocol string `json:"protocol"` // auth_http or dovecot
	Address  string `json:"address"`  // where usher said to go
	Backend  string `json:"backend"`  // who is there, by greeting and by the message in the INBOX
	By       string `json:"by"`
	Reason   string `json:"reason"`
}

// demoAdapters are usher's names for the protocols that the stand-in speaks.
var demoAdapters = map[string]string{"auth_http": "nginx", "dovecot": "dovecot"}

const demoIntro = `usher %s, demo

Everything here runs in one process: three IMAP backends, usher before them, and
a stand-in for the mail proxy. That is neither nginx nor Dovecot: it asks usher
in their protocols, and logs in by IMAP where usher says.

BACKEND  ADDRESS          CHECK
`

const demoRow = "%-17s  %-9s  %-15s  %-7s  %-15s  %s\n"

const demoLegend = `
ASKED BY  auth_http is nginx's way to ask; dovecot the Dovecot auth protocol
BACKEND   who greeted, and whom the message in the user's INBOX names
BY        who chose: usher's built-in Lua policy, director
REASON    hash: a new user, spread over the backends that are up
          sticky: he was there before, and stays

%s came back to the same backend, and both protocols
took %s to one backend, as it should be.
`

const demoTry = `
usher stays up until Ctrl-C. Ask it as nginx does:

  %s

or look at it:

  %[2]s status --socket %[3]s
  %[2]s route %[4]s --socket %[3]s
  curl -s %[5]s
`

// show lets the stand-in log everybody in, and prints what came out. What did
// not come out as it should is an error.
func (d *demo) show(ctx context.Context, u *demoUsher, backends *demoBackends) error {
	report := demoReport{Version: version()}
	if err := d.say(demoIntro, version()); err != nil {
		return err
	}
	for _, b := range backends.list {
		report.Backends = append(report.Backends, demoServer{b.name, b.addr.String()})
		if err := d.say("%-7s  %-15s  up\n", b.name, b.addr); err != nil {
			return err
		}
	}
	if err := d.say("\n"+demoRow, "USER", "ASKED BY", "USHER SAID", "BACKEND", "BY", "REASON"); err != nil {
		return err
	}
	alice, bob, carol := demoUsers[0], demoUsers[1], demoUsers[2]
	for _, l := range []struct {
		user     demoUser
		protocol string
	}{{alice, "auth_http"}, {alice, "auth_http"}, {bob, "dovecot"}, {carol, "auth_http"}, {carol, "dovecot"}} {
		r, err := proxyLogin(ctx, u, backends, l.user, l.protocol)
		if err == nil {
			err = report.add(r)
		}
		if err != nil {
			return fmt.Errorf("%s by %s: %w", l.user.name, l.protocol, err)
		}
		if err := d.say(demoRow, r.User, r.Protocol, r.Address, r.Backend, r.By, r.Reason); err != nil {
			return err
		}
	}
	if !d.once {
		report.Usher = &u.places
	}
	if d.json {
		return printJSON(d.out, report)
	}
	if err := d.say(demoLegend, alice.name, carol.name); err != nil || d.once {
		return err
	}
	p := u.places
	return d.say(demoTry, curlLine(p.AuthHTTP, alice), d.program, p.Control, alice.name, p.Metrics)
}

// say prints for people.
func (d *demo) say(format string, args ...any) error {
	if d.json {
		return nil
	}
	_, err := fmt.Fprintf(d.out, format, args...)
	return err
}

// proxyLogin is one login as a mail proxy does it: ask, then log in there.
func proxyLogin(ctx context.Context, u *demoUsher, backends *demoBackends, user demoUser, protocol string) (*demoResult, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	var addr netip.AddrPort
	var err error
	if protocol == "dovecot" {
		addr, err = askDovecot(ctx, u.cfg.Dovecot.Listeners[0].Address.Addr, user)
	} else {
		addr, err = askAuthHTTP(ctx, u.places.AuthHTTP, user)
	}
	why, logErr := u.decision(demoAdapters[protocol], user.name)
	if err != nil {
		if why.Reason != "" {
			err = fmt.Errorf("%w (by %s, reason %s)", err, why.By, strings.TrimSuffix(why.Reason+": "+why.Error, ": "))
		}
		return nil, err
	}
	if logErr != nil {
		return nil, logErr
	}
	b := backends.at(addr)
	if b == nil {
		return nil, fmt.Errorf("usher said %s, which is no backend", addr)
	}
	subject, err := logIn(ctx, addr, user)
	if err != nil {
		return nil, fmt.Errorf("at backend %s, %s: %w", b.name, addr, err)
	}
	if subject != b.subject() {
		return nil, fmt.Errorf("%s is backend %s, but the INBOX there says %q", addr, b.name, subject)
	}
	return &demoResult{User: user.name, Protocol: protocol, Address: addr.String(), Backend: b.name, By: why.By, Reason: why.Reason}, nil
}

// add takes a login in if it is what the built-in policy promises: who is new
// goes where the hash says, who was there before goes there again.
func (r *demoReport) add(l *demoResult) error {
	reason := "hash"
	for _, before := range r.Logins {
		if before.User != l.User {
			continue
		}
		if before.Address != l.Address {
			return fmt.Errorf("usher said %s, but %s before, by %s", l.Address, before.Address, before.Protocol)
		}
		reason = "sticky"
	}
	if l.Reason != reason {
		return fmt.Errorf("the reason is %q, expected %q", l.Reason, reason)
	}
	if l.By == "" {
		return errors.New("nobody decided")
	}
	r.Logins = append(r.Logins, l)
	return nil
}
