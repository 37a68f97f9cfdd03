package monitor

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"usher/proxy"
)

var (
	errNoPOP3Login = errors.New("server offers neither USER nor AUTH PLAIN")
	errUSER        = errors.New("test_username or test_password has characters that USER and PASS cannot say, and server offers no AUTH PLAIN")
)

// checkPOP3 speaks POP3 (RFC 1939, RFC 2449). The login is USER and PASS where
// the server has them and they can say the name, else AUTH PLAIN (RFC 5034).
func checkPOP3(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	return converse(ctx, p, s, addr, func(c *session) dialogue { return &pop3{session: c} })
}

type pop3 struct {
	*session
	caps map[string][]string // name and arguments in upper case; nil: server has no CAPA
}

func (c *pop3) greet() error {
	ok, line, err := c.status("greeting")
	if err == nil && !ok {
		err = c.said("greeting", line)
	}
	return err
}

func (c *pop3) capabilities() error {
	c.caps = nil
	if err := c.send("CAPA", "CAPA"); err != nil {
		return err
	}
	ok, _, err := c.status("CAPA")
	if err != nil || !ok {
		return err
	}
	c.caps = map[string][]string{}
	for {
		line, err := c.line("CAPA")
		if err != nil || line == "." {
			return err
		}
		if f := strings.Fields(strings.ToUpper(strings.TrimPrefix(line, "."))); len(f) > 0 {
			c.caps[f[0]] = f[1:]
		}
	}
}

// startTLS asks servers without CAPA too: RFC 2595 is older than most.
func (c *pop3) startTLS() error {
	if _, offered := c.caps["STLS"]; c.caps != nil && !offered {
		return errNoStartTLS
	}
	return c.command("STARTTLS", "STLS")
}

func (c *pop3) login(user, password string) error {
	_, withUSER := c.caps["USER"]
	withUSER = withUSER || c.caps == nil
	withPLAIN := slices.Contains(c.caps["SASL"], "PLAIN")
	switch {
	case strings.Contains(user+password, "\x00"):
		return errNUL
	case withUSER && isPrintableASCII(user+password) && !strings.Contains(user, " "):
	case withPLAIN:
		return c.authPlain(user, password)
	case !withUSER:
		return errNoPOP3Login
	case strings.ContainsFunc(user+password, isControl) || strings.Contains(user, " "):
		return errUSER
	}
	if err := c.command("login", "USER "+user); err != nil {
		return err
	}
	return c.enter("PASS "+password, "PASS "+stars)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// authPlain waits before it says more: with an initial response the line could
// grow too long (RFC 5034, section 4).
func (c *pop3) authPlain(user, password string) error {
	if err := c.send("login", "AUTH PLAIN"); err != nil {
		return err
	}
	line, err := c.line("login")
	if err != nil {
		return err
	}
	if line != "+" && !strings.HasPrefix(line, "+ ") {
		return c.said("login refused", line)
	}
	return c.enter(base64.StdEncoding.EncodeToString([]byte(plain(user, password))), stars)
}

// enter sends the password. A server that says that the mailbox is in use, or
// that it is too early for the next login, has taken it (RFC 2449, section 8.1).
func (c *pop3) enter(line, shown string) error {
	if err := c.confide("login", line, shown); err != nil {
		return err
	}
	ok, line, err := c.status("login")
	if err != nil || ok {
		return err
	}
	_, text := word(line)
	switch code, _, _ := strings.Cut(strings.ToUpper(text), "]"); code {
	case "[IN-USE", "[LOGIN-DELAY":
		return nil
	}
	return c.said("login refused", text)
}

func (c *pop3) logout() {
	if c.send("QUIT", "QUIT") == nil {
		_, _ = c.line("QUIT")
	}
}

// command sends one and expects +OK.
func (c *pop3) command(stage, line string) error {
	if err := c.send(stage, line); err != nil {
		return err
	}
	ok, line, err := c.status(stage)
	if err == nil && !ok {
		_, text := word(line)
		err = c.said(stage+" refused", text)
	}
	return err
}

// status reads an answer's first line: +OK or -ERR.
func (c *pop3) status(stage string) (ok bool, line string, err error) {
	if line, err = c.line(stage); err != nil {
		return false, "", err
	}
	switch kind, _ := word(line); kind {
	case "+OK":
		return true, line, nil
	case "-ERR":
		return false, line, nil
	}
	return false, "", c.said(stage, "not an answer of POP3: "+line)
}
