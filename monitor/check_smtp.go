package monitor

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

var (
	errNoAUTH  = errors.New("server offers no AUTH")
	errNoPlain = errors.New("server offers no AUTH PLAIN or LOGIN")
)

// checkSMTP speaks SMTP or submission (RFC 5321). The login is AUTH PLAIN, or
// LOGIN where that is all there is (RFC 4954).
func checkSMTP(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	return converse(ctx, p, s, addr, func(c *session) dialogue { return &smtp{session: c} })
}

// smtp is LMTP's dialogue too, but for its login.
type smtp struct {
	*session
	hello string              // "": EHLO
	ext   map[string][]string // keyword and parameters in upper case
}

func (c *smtp) greet() error {
	return c.expect("greeting", 220)
}

// capabilities falls back to HELO only where nothing is wanted that takes EHLO.
func (c *smtp) capabilities() error {
	hello := c.hello
	if hello == "" {
		hello = "EHLO"
	}
	domain := literalOf(c.conn.LocalAddr())
	if err := c.send(hello, hello+" "+domain); err != nil {
		return err
	}
	r, err := c.reply(hello)
	if err != nil {
		return err
	}
	c.ext = map[string][]string{}
	if r.code == 250 {
		for _, line := range r.lines[1:] {
			if f := strings.Fields(strings.ToUpper(line)); len(f) > 0 {
				c.ext[f[0]] = f[1:]
			}
		}
		return nil
	}
	if c.hello != "" || r.code < 500 || c.s.StartTLS || c.s.TestUsername != "" {
		return c.said(hello+" refused", r.String())
	}
	if err := c.send("HELO", "HELO "+domain); err != nil {
		return err
	}
	return c.expect("HELO", 250)
}

func (c *smtp) startTLS() error {
	if _, offered := c.ext["STARTTLS"]; !offered {
		return errNoStartTLS
	}
	return c.command("STARTTLS", "STARTTLS", 220)
}

func (c *smtp) login(user, password string) error {
	mechanisms, offered := c.ext["AUTH"]
	switch {
	case !offered:
		return errNoAUTH
	case strings.Contains(user+password, "\x00"):
		return errNUL
	case slices.Contains(mechanisms, "PLAIN"):
		if err := c.confide("login", "AUTH PLAIN "+b64(plain(user, password)), "AUTH PLAIN "+stars); err != nil {
			return err
		}
	case slices.Contains(mechanisms, "LOGIN"):
		if err := c.command("login", "AUTH LOGIN", 334); err != nil {
			return err
		}
		if err := c.command("login", b64(user), 334); err != nil {
			return err
		}
		if err := c.confide("login", b64(password), stars); err != nil {
			return err
		}
	default:
		return errNoPlain
	}
	return c.expect("login", 235)
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (c *smtp) logout() {
	if c.send("QUIT", "QUIT") == nil {
		_, _ = c.reply("QUIT")
	}
}

// command sends one that has no secret and expects a code.
func (c *smtp) command(stage, line string, code int) error {
	if err := c.send(stage, line); err != nil {
		return err
	}
	return c.expect(stage, code)
}

// expect reads a reply, which must have that code.
func (c *smtp) expect(stage string, code int) error {
	r, err := c.reply(stage)
	if err == nil && r.code != code {
		if stage != "greeting" {
			stage += " refused"
		}
		err = c.said(stage, r.String())
	}
	return err
}

// An smtpReply is a reply with one line at least.
type smtpReply struct {
	code  int
	lines []string // without the code
}

func (r smtpReply) String() string { return strconv.Itoa(r.code) + " " + strings.Join(r.lines, " ") }

// reply reads one (RFC 5321, section 4.2): each of its lines begins with the same
// code, which a hyphen follows in all but the last.
func (c *smtp) reply(stage string) (smtpReply, error) {
	var r smtpReply
	for {
		line, err := c.line(stage)
		if err != nil {
			return r, err
		}
		code, text, last, ok := replyLine(line)
		switch {
		case !ok:
			return r, c.said(stage, "no reply of SMTP: "+line)
		case len(r.lines) > 0 && code != r.code:
			return r, c.said(stage, "lines of one reply have different codes: "+r.String()+", "+line)
		}
		r.code, r.lines = code, append(r.lines, text)
		if last {
			return r, nil
		}
	}
}

// replyLine takes a line of a reply apart. A code alone is a last line.
func replyLine(line string) (code int, text string, last, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	n, err := strconv.ParseUint(line[:3], 10, 16)
	switch {
	case err != nil:
		return 0, "", false, false
	case len(line) == 3:
		return int(n), "", true, true
	case line[3] != ' ' && line[3] != '-':
		return 0, "", false, false
	}
	return int(n), line[4:], line[3] == ' ', true
}

// literalOf returns the address literal of our end (RFC 5321, section 4.1.3).
func literalOf(a net.Addr) string {
	addr := netip.IPv4Unspecified()
	if at, err := netip.ParseAddrPort(a.String()); err == nil {
		addr = at.Addr().Unmap().WithZone("")
	}
	if addr.Is4() {
		return "[" + addr.String() + "]"
	}
	return "[IPv6:" + addr.String() + "]"
}
