package monitor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"usher/proxy"
)

// What one check reads at most.
const (
	maxLine  = 8 << 10   // bytes of a line with its end
	maxLines = 1000      // lines of a connection
	maxBytes = 256 << 10 // bytes of a connection: lines and literals
)

// goodbye bounds how long a check that is done waits for the server to say so
// too.
const goodbye = time.Second

var (
	errNoStartTLS = errors.New("server offers no STARTTLS")
	errInjected   = errors.New("server sent plaintext after its go-ahead for STARTTLS, before the handshake")
	errClear      = errors.New("the connection is not encrypted, nothing was told")
	errNUL        = errors.New("test_username or test_password has a NUL, which no login can say")
)

// A dialogue is one protocol's part of a check, over a session. Each step but
// the last returns an error that means down.
type dialogue interface {
	// greet reads the greeting.
	greet() error
	// capabilities learns what the server can do, if the greeting did not say.
	capabilities() error
	// startTLS asks for TLS and reads the go-ahead. What the server could do
	// before is forgotten: somebody else may have said it (RFC 9051, section
	// 11.1).
	startTLS() error
	login(user, password string) error
	// logout says goodbye. How that goes is nobody's concern.
	logout()
}

// converse makes a check out of a dialogue: none, when s asks neither for a deep
// check nor for STARTTLS; up to the handshake, with STARTTLS alone; else all of
// it, and the login when there is somebody to log in as.
func converse(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr, with func(*session) dialogue) error {
	if !s.DeepCheck && !s.StartTLS {
		return checkConnect(ctx, p, s, addr)
	}
	c, err := openSession(ctx, p, s, addr)
	if err != nil {
		return err
	}
	defer c.close()
	return c.hold(ctx, with(c))
}

// hold leads a dialogue from the greeting to the goodbye.
func (c *session) hold(ctx context.Context, d dialogue) error {
	if err := d.greet(); err != nil {
		return err
	}
	if err := d.capabilities(); err != nil {
		return err
	}
	if c.s.StartTLS {
		if err := d.startTLS(); err != nil {
			return err
		}
		if err := c.secure(ctx); err != nil {
			return err
		}
		if c.s.DeepCheck {
			if err := d.capabilities(); err != nil {
				return err
			}
		}
	}
	if c.s.DeepCheck && c.s.TestUsername != "" {
		if err := d.login(c.s.TestUsername, c.s.TestPassword.Reveal()); err != nil {
			return err
		}
	}
	c.hurry()
	if ctx.Err() == nil {
		d.logout()
	}
	return nil
}

// A session is a connection to a backend on which lines are exchanged.
type session struct {
	*prober
	s      *proxy.Server
	conn   net.Conn
	r      *bufio.Reader
	secret bool // nobody else can read it: TLS stands
	lines  int  // read so far
	bytes  int
	detach func() bool // ends ctx's hold on conn
}

// openSession connects as open does. The end of ctx ends what the session waits
// for; close ends the session.
func openSession(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) (*session, error) {
	conn, err := p.open(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	detach := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &session{prober: p, s: s, conn: conn, r: bufio.NewReaderSize(conn, maxLine), secret: s.TLS, detach: detach}, nil
}

func (c *session) close() {
	c.detach()
	c.prober.close(c.conn, c.s)
}

// hurry leaves goodbye for the rest; the end of ctx still comes before that.
func (c *session) hurry() { _ = c.conn.SetDeadline(time.Now().Add(goodbye)) }

// secure makes the TLS handshake that follows the server's go-ahead. What came
// in before it was not from who shows the certificate, and would be taken for
// an answer under TLS (CVE-2011-0411).
func (c *session) secure(ctx context.Context) error {
	if c.r.Buffered() > 0 {
		return errInjected
	}
	conn, err := c.handshake(ctx, c.s, c.conn)
	if err != nil {
		return err
	}
	c.conn, c.secret = conn, true
	c.r.Reset(conn)
	return nil
}

// line reads a line and returns it without its end, which is CRLF or LF. Other
// control characters than tabs have no place in a line.
func (c *session) line(stage string) (string, error) {
	b, err := c.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", c.said(stage, fmt.Sprintf("a line has more than %d bytes", maxLine))
	case err != nil:
		return "", c.explain(stage, err)
	}
	if c.lines++; c.lines > maxLines {
		return "", c.said(stage, fmt.Sprintf("more than %d lines", maxLines))
	}
	if err := c.count(stage, len(b)); err != nil {
		return "", err
	}
	b = b[:len(b)-1]
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	for _, ch := range b {
		if ch < ' ' && ch != '\t' || ch == 0x7f {
			return "", c.said(stage, "a line has control characters")
		}
	}
	line := string(b)
	c.note("S: ", line)
	return line, nil
}

// literal reads the n bytes of a literal.
func (c *session) literal(stage string, n int) (string, error) {
	if err := c.count(stage, n); err != nil {
		return "", err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return "", c.explain(stage, err)
	}
	text := string(b)
	c.note("S: ", text)
	return text, nil
}

func (c *session) count(stage string, n int) error {
	if n > maxBytes-c.bytes {
		return c.said(stage, fmt.Sprintf("more than %d bytes", maxBytes))
	}
	c.bytes += n
	return nil
}

// send writes a line. Its end is added.
func (c *session) send(stage, line string) error { return c.write(stage, line, line) }

// confide writes a line with a secret, which a trace shows as shown; not where
// everybody could read it though TLS is configured.
func (c *session) confide(stage, line, shown string) error {
	if (c.s.TLS || c.s.StartTLS) && !c.secret {
		return errClear
	}
	return c.write(stage, line, shown)
}

func (c *session) write(stage, line, shown string) error {
	for part := range strings.SplitSeq(shown, "\r\n") {
		c.note("C: ", part)
	}
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return c.explain(stage, err)
	}
	return nil
}

// word splits a text at its first space and returns the word in upper case.
func word(text string) (first, rest string) {
	first, rest, _ = strings.Cut(text, " ")
	return strings.ToUpper(first), rest
}
