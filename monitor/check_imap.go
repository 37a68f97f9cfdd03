package monitor

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

var (
	errPreauth       = errors.New("greeting: server is logged in already (PREAUTH), so STARTTLS is not possible")
	errNotIMAP4rev1  = errors.New("server has neither IMAP4rev1 nor IMAP4rev2")
	errLoginDisabled = errors.New("server allows no logins here (LOGINDISABLED)")
)

// checkIMAP speaks IMAP (RFC 9051, RFC 3501). The login is the command LOGIN.
func checkIMAP(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	return converse(ctx, p, s, addr, func(c *session) dialogue { return &imap{session: c} })
}

type imap struct {
	*session
	caps    []string // in upper case; empty: not known
	tags    int      // given so far
	preauth bool
}

func (c *imap) greet() error {
	line, err := c.response("greeting")
	if err != nil {
		return err
	}
	rest, _ := strings.CutPrefix(line, "* ")
	kind, _ := word(rest)
	switch {
	case rest == line || kind != "OK" && kind != "PREAUTH":
		return c.said("greeting", "not one of IMAP: "+line)
	case kind == "PREAUTH" && c.s.StartTLS: // RFC 9051, section 7.1.4
		return errPreauth
	}
	c.preauth = kind == "PREAUTH"
	c.learn(codeOf(rest))
	return nil
}

func (c *imap) capabilities() error {
	if len(c.caps) == 0 {
		if err := c.command("CAPABILITY", "CAPABILITY"); err != nil {
			return err
		}
	}
	if !slices.Contains(c.caps, "IMAP4REV1") && !slices.Contains(c.caps, "IMAP4REV2") {
		return errNotIMAP4rev1
	}
	return nil
}

func (c *imap) startTLS() error {
	if !slices.Contains(c.caps, "STARTTLS") {
		return errNoStartTLS
	}
	if err := c.command("STARTTLS", "STARTTLS"); err != nil {
		return err
	}
	c.caps = nil
	return nil
}

// login sends user and password as quoted strings, or as synchronizing literals
// what a quoted string cannot hold (RFC 9051, section 4.3).
func (c *imap) login(user, password string) error {
	switch {
	case c.preauth:
		return nil
	case slices.Contains(c.caps, "LOGINDISABLED"):
		return errLoginDisabled
	case strings.Contains(user+password, "\x00"):
		return errNUL
	}
	tag := c.tag()
	line, shown := tag+" LOGIN", tag+" LOGIN"
	for i, arg := range []string{user, password} {
		line, shown = line+" ", shown+" "
		quoted, ok := quote(arg)
		if !ok {
			size := "{" + strconv.Itoa(len(arg)) + "}"
			if err := c.confide("login", line+size, shown+size); err != nil {
				return err
			}
			if end, err := c.wait("login", tag, true); err != nil {
				return err
			} else if end != goAhead {
				return c.verdict("login", end)
			}
			line, shown, quoted = "", "", arg
		}
		line += quoted
		if i == 1 {
			quoted = stars
		}
		shown += quoted
	}
	if err := c.confide("login", line, shown); err != nil {
		return err
	}
	end, err := c.wait("login", tag, false)
	if err != nil {
		return err
	}
	return c.verdict("login", end)
}

func (c *imap) logout() {
	tag := c.tag()
	if c.send("LOGOUT", tag+" LOGOUT") != nil {
		return
	}
	for {
		line, err := c.line("LOGOUT")
		if err != nil || strings.HasPrefix(line, tag+" ") {
			return
		}
	}
}

func (c *imap) tag() string {
	c.tags++
	return "a" + strconv.Itoa(c.tags)
}

// command sends one that has no secret and expects its OK.
func (c *imap) command(stage, text string) error {
	tag := c.tag()
	if err := c.send(stage, tag+" "+text); err != nil {
		return err
	}
	end, err := c.wait(stage, tag, false)
	if err != nil {
		return err
	}
	return c.verdict(stage, end)
}

// goAhead is what wait returns for a continuation request.
const goAhead = "+"

// wait reads up to the response with that tag and returns what follows the tag;
// or up to a continuation request, if one may come. Capabilities are kept.
func (c *imap) wait(stage, tag string, continues bool) (string, error) {
	for {
		line, err := c.response(stage)
		if err != nil {
			return "", err
		}
		if rest, ok := strings.CutPrefix(line, "* "); ok {
			c.learn(rest)
			if isStatus(rest) {
				c.learn(codeOf(rest))
			}
			continue
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			c.learn(codeOf(rest))
			return rest, nil
		}
		switch {
		case line != "+" && !strings.HasPrefix(line, "+ "):
			return "", c.said(stage, "no answer to "+tag+": "+line)
		case !continues:
			return "", c.said(stage, "server waits for more: "+line)
		}
		return goAhead, nil
	}
}

// verdict turns what follows the tag of a response into an error.
func (c *imap) verdict(stage, end string) error {
	switch kind, text := word(end); kind {
	case "OK":
		return nil
	case "NO":
		return c.said(stage+" refused", text)
	default:
		return c.said(stage+" refused", end)
	}
}

// response reads one response, of which it returns what comes before the first
// literal. BYE is an error: nobody has said LOGOUT.
func (c *imap) response(stage string) (string, error) {
	line, err := c.line(stage)
	if err != nil {
		return "", err
	}
	rest, untagged := strings.CutPrefix(line, "* ")
	if !untagged {
		return line, nil
	}
	if kind, _ := word(rest); kind == "BYE" {
		return "", c.said(stage, line)
	}
	if isStatus(rest) { // its text is for humans and may end in anything
		return line, nil
	}
	for more := line; ; {
		n, ok := literalSize(more)
		if !ok {
			return line, nil
		}
		if _, err := c.literal(stage, n); err != nil {
			return "", err
		}
		if more, err = c.line(stage); err != nil {
			return "", err
		}
	}
}

// learn keeps the capabilities if data, a response or a response code, is them.
func (c *imap) learn(data string) {
	if kind, list := word(data); kind == "CAPABILITY" {
		c.caps = strings.Fields(strings.ToUpper(list))
	}
}

// codeOf returns the response code of a status response, or "".
func codeOf(status string) string {
	_, text := word(status)
	code, ok := strings.CutPrefix(text, "[")
	if !ok {
		return ""
	}
	code, _, _ = strings.Cut(code, "]")
	return code
}

// isStatus reports whether an untagged response is a status response (RFC 9051,
// section 7.1).
func isStatus(rest string) bool {
	kind, _ := word(rest)
	return slices.Contains([]string{"OK", "NO", "BAD", "BYE", "PREAUTH"}, kind)
}

// literalSize returns the size of the literal that a line announces at its end:
// {n}, or {n+} (RFC 5804, section 1.2). One that is no number of at most seven
// digits is none.
func literalSize(line string) (n int, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	digits := strings.TrimSuffix(line[open+1:len(line)-1], "+")
	if len(digits) > 7 {
		return 0, false
	}
	size, err := strconv.ParseUint(digits, 10, 32)
	return int(size), err == nil
}

// quote returns text as a quoted string (RFC 9051, section 9), if all of it is
// printable ASCII.
func quote(text string) (quoted string, ok bool) {
	if !isPrintableASCII(text) {
		return "", false
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, true
}

// isPrintableASCII reports whether text has no control and no 8-bit characters.
func isPrintableASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
