package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// A demoUser has the same password on every backend.
type demoUser struct{ name, password string }

var demoUsers = []demoUser{
	{"alice@example.org", "looking-glass"},
	{"bob@example.org", "yes-we-can"},
	{"carol@example.org", "one-two-three"},
}

// A demoBackend is an IMAP server in this process. It greets with its name, and
// whoever logs in finds one message, whose subject names the backend.
type demoBackend struct {
	name string
	addr netip.AddrPort

	ln     net.Listener
	server *imapserver.Server
	ended  chan error // of Serve
}

// subject is that of the message in every INBOX.
func (b *demoBackend) subject() string { return "backend " + b.name }

// The library greets every client with the same text; a greetingListener's
// connections say whose it is.
type greetingListener struct {
	net.Listener
	name string
}

func (l greetingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &greetingConn{Conn: c, name: l.name}, nil
}

type greetingConn struct {
	net.Conn
	name    string
	greeted bool // the server's own goroutine writes
}

func (c *greetingConn) Write(b []byte) (int, error) {
	if c.greeted {
		return c.Conn.Write(b)
	}
	c.greeted = true
	line := strings.Replace(string(b), "IMAP server ready", c.name+" ready", 1)
	if _, err := c.Conn.Write([]byte(line)); err != nil {
		return 0, err
	}
	return len(b), nil
}

type demoBackends struct{ list []*demoBackend }

// startDemoBackends runs three backends, each on an address of loopback of its
// own: for usher a host is one machine.
func startDemoBackends(users []demoUser) (*demoBackends, error) {
	bs := &demoBackends{}
	for i, name := range []string{"east", "north", "west"} {
		b, err := startDemoBackend(name, fmt.Sprintf("127.0.0.%d", i+2), users)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("backend %s: %w", name, err), bs.close())
		}
		bs.list = append(bs.list, b)
	}
	return bs, nil
}

func startDemoBackend(name, host string, users []demoUser) (*demoBackend, error) {
	b := &demoBackend{name: name, ended: make(chan error, 1)}
	mem := imapmemserver.New()
	for _, u := range users {
		mailboxes := imapmemserver.NewUser(u.name, u.password)
		if err := mailboxes.Create("INBOX", nil); err != nil {
			return nil, err
		}
		text := fmt.Sprintf("From: demo@example.org\r\nTo: %s\r\nSubject: %s\r\n\r\nThis mailbox lies on %s.\r\n", u.name, b.subject(), b.subject())
		if _, err := mailboxes.Append("INBOX", literal{strings.NewReader(text)}, &imap.AppendOptions{}); err != nil {
			return nil, err
		}
		mem.AddUser(mailboxes)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("%w (the demo needs 127.0.0.2, .3 and .4 on the loopback interface)", err)
	}
	b.ln, b.addr = ln, ln.Addr().(*net.TCPAddr).AddrPort()
	b.server = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		// It would log each health check: they hang up without a word.
		Logger:       log.New(io.Discard, "", 0),
		InsecureAuth: true, // loopback
	})
	go func() { b.ended <- b.server.Serve(greetingListener{ln, b.subject()}) }()
	return b, nil
}

// close ends the backends and their connections.
func (bs *demoBackends) close() error {
	var errs []error
	for _, b := range bs.list {
		// In this order Serve takes it for its normal end.
		errs = append(errs, b.ln.Close(), <-b.ended, b.server.Close())
	}
	return errors.Join(errs...)
}

// at returns the backend with that address, or nil.
func (bs *demoBackends) at(addr netip.AddrPort) *demoBackend {
	for _, b := range bs.list {
		if b.addr == addr {
			return b
		}
	}
	return nil
}

// A literal is a message to append.
type literal struct{ *strings.Reader }

// Size implements imap.LiteralReader.
func (l literal) Size() int64 { return l.Reader.Size() }
