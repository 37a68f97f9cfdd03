package servers

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A Client is a mail client that has read the server's greeting. Its login
// methods return the server's last word on the login: the reply line, for IMAP
// without the tag (or the untagged BAD or BYE before the server hung up), or
// Closed when the server hung up without a word.
type Client struct {
	*Conn
	Protocol string // imap, pop3, smtp, submission, sieve, lmtp
	IP       string // its own address

	tags     int
	greeting string // pop3
}

// Closed stands for the reply of a server that closed the connection.
const Closed = "(closed)"

// Dial connects to addr from an address that no client had before, and reads
// the greeting.
func Dial(t testing.TB, protocol, addr string) *Client {
	t.Helper()
	return DialFrom(t, protocol, addr, ClientIP())
}

// DialFrom is Dial from a given address.
func DialFrom(t testing.TB, protocol, addr, from string) *Client {
	t.Helper()
	c := &Client{Conn: Connect(t, protocol, addr, from), Protocol: protocol, IP: from}
	c.Greeting()
	return c
}

// TryDial is Dial, imap or pop3, to a server that may have trouble: then refused is
// what it says instead of a greeting.
func TryDial(t testing.TB, protocol, addr string) (c *Client, refused string) {
	t.Helper()
	ip := ClientIP()
	c = &Client{Conn: Connect(t, protocol, addr, ip), Protocol: protocol, IP: ip}
	line, err := c.Read()
	if err != nil {
		return c, Closed
	}
	if !strings.HasPrefix(line, "* OK ") && !strings.HasPrefix(line, "+OK") {
		return c, line
	}
	return c, ""
}

// DialTLS is Dial to a server that speaks TLS from the first byte.
func DialTLS(t testing.TB, protocol, addr string, cert *Certificate) *Client {
	t.Helper()
	return DialTLSAs(t, protocol, addr, cert, nil)
}

// DialTLSAs is DialTLS with a certificate of the client's own, unless it is nil.
func DialTLSAs(t testing.TB, protocol, addr string, cert, own *Certificate) *Client {
	t.Helper()
	ip := ClientIP()
	c := &Client{Conn: Connect(t, protocol, addr, ip), Protocol: protocol, IP: ip}
	c.startTLS(cert, own)
	c.Greeting()
	return c
}

// DialProxied is Dial with a PROXY header (version 1) before it, which says that
// the client is at rip.
func DialProxied(t testing.TB, protocol, addr, rip string) *Client {
	t.Helper()
	c := &Client{Conn: Connect(t, protocol, addr, ClientIP()), Protocol: protocol, IP: rip}
	host, port := splitAddr(t, addr)
	c.Writeln(fmt.Sprintf("PROXY TCP4 %s %s 40000 %s", rip, host, port))
	c.Greeting()
	return c
}

// Greeting reads the server's greeting, for SMTP also the answer to EHLO (LHLO
// for LMTP). Dial has done so.
func (c *Client) Greeting() {
	c.t.Helper()
	switch c.Protocol {
	case "imap":
		c.ExpectPattern(`^\* OK `)
	case "pop3":
		c.greeting = c.ExpectPattern(`^\+OK`)
	case "smtp", "submission":
		c.ExpectPattern(`^220 `)
		c.hello("EHLO")
	case "lmtp":
		c.ExpectPattern(`^220 `)
		c.hello("LHLO")
	case "sieve":
		c.sieveCapabilities()
	default:
		c.t.Fatalf("no client for %q", c.Protocol)
	}
}

// Login logs in the plain way: IMAP LOGIN, POP3 USER and PASS, SMTP AUTH LOGIN;
// ManageSieve has none and takes AUTHENTICATE PLAIN. IMAP's strings are quoted:
// no CR, LF and NUL.
func (c *Client) Login(user, pass string) string {
	c.t.Helper()
	switch c.Protocol {
	case "imap":
		return c.imapLogin(user, pass)
	case "pop3":
		return c.pop3Login(user, pass)
	case "sieve":
		return c.AuthPlain(user, pass, true)
	default:
		return c.smtpLogin(user, pass)
	}
}

// AuthPlain logs in by SASL PLAIN (RFC 4616), with or without an initial
// response.
func (c *Client) AuthPlain(user, pass string, initial bool) string {
	c.t.Helper()
	resp := encode("\x00" + user + "\x00" + pass)
	switch c.Protocol {
	case "imap":
		return c.imapPlain(resp, initial)
	case "pop3":
		return c.pop3Plain(resp, initial)
	case "sieve":
		return c.sievePlain(resp, initial)
	default:
		return c.smtpPlain(resp, initial)
	}
}

// Authenticate logs in by a SASL mechanism without initial response: answer is
// given each challenge as it comes, and returns what is sent, both base64.
func (c *Client) Authenticate(mech string, answer func(challenge string) string) string {
	c.t.Helper()
	tag := ""
	if c.Protocol == "imap" {
		tag = c.tag()
		c.Writeln(tag + " AUTHENTICATE " + mech)
	} else {
		c.Writeln("AUTH " + mech)
	}
	for {
		line, err := c.Read()
		if err != nil {
			return Closed
		}
		if challenge, ok := strings.CutPrefix(line, "+ "); ok || line == "+" {
			c.Writeln(answer(challenge))
			continue
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); tag == "" || ok {
			if tag == "" {
				return line
			}
			return rest
		}
	}
}

// OK reports whether reply is that of a login that went well.
func (c *Client) OK(reply string) bool {
	switch c.Protocol {
	case "imap", "sieve":
		return strings.HasPrefix(reply, "OK")
	case "pop3":
		return strings.HasPrefix(reply, "+OK")
	default:
		return strings.HasPrefix(reply, "235")
	}
}

// Backend asks the server that it is logged in to for its address, the one
// that StartDovecotBackend and StartSMTPSink were given.
func (c *Client) Backend() string {
	c.t.Helper()
	switch c.Protocol {
	case "imap":
		return c.imapBackend()
	case "pop3":
		return c.pop3Backend()
	case "sieve":
		return c.sieveBackend()
	default:
		return c.smtpBackend()
	}
}

// TryBackend is Backend, imap or pop3, in a session that may end at any time: then it
// returns the server's last word, or Closed.
func (c *Client) TryBackend() string {
	c.t.Helper()
	ask := "TOP 1 0\r\n"
	if c.Protocol == "imap" {
		ask = "T1 EXAMINE INBOX\r\nT2 FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]\r\n"
	}
	if _, err := io.WriteString(c.c, ask); err != nil {
		return Closed
	}
	host, last := "", Closed
	for {
		line, err := c.Read()
		if err != nil {
			return cmp.Or(host, last)
		}
		if m := markLine.FindStringSubmatch(line); m != nil {
			host = m[1]
		}
		if last = line; line == "." || strings.HasPrefix(line, "-ERR") || strings.HasPrefix(line, "T2 ") {
			return cmp.Or(host, last)
		}
	}
}

// final returns the line, or Closed when err says that there is none.
func final(line string, err error) string {
	if err != nil {
		return Closed
	}
	return line
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// mark is the subject of the one message that a backend keeps for each user.
func mark(ip string) string { return fmt.Sprintf("mailbox on %s", ip) }

const markPattern = `mailbox on ([0-9.]+)`
