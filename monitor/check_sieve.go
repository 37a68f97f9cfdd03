package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"usher/proxy"
)

var errNoSASLPlain = errors.New("server offers no SASL PLAIN")

// checkSieve speaks ManageSieve (RFC 5804). The login is AUTHENTICATE with SASL
// PLAIN.
func checkSieve(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	return converse(ctx, p, s, addr, func(c *session) dialogue { return &sieve{session: c, stage: "greeting"} })
}

type sieve struct {
	*session
	stage string            // of the capabilities that come next
	caps  map[string]string // by name in upper case
}

// greet has nothing to do: the greeting is capabilities.
func (c *sieve) greet() error { return nil }

// capabilities reads what the server tells on its own, at the start and after
// the TLS handshake (RFC 5804, sections 1.7 and 2.2).
func (c *sieve) capabilities() error {
	c.caps = map[string]string{}
	for {
		r, err := c.response(c.stage)
		if err != nil {
			return err
		}
		if !r.tokens[0].quoted {
			return c.verdict(c.stage, r)
		}
		value := ""
		if len(r.tokens) > 1 {
			value = r.tokens[1].text
		}
		c.caps[strings.ToUpper(r.tokens[0].text)] = value
	}
}

func (c *sieve) startTLS() error {
	if _, offered := c.caps["STARTTLS"]; !offered {
		return errNoStartTLS
	}
	if err := c.send("STARTTLS", "STARTTLS"); err != nil {
		return err
	}
	c.stage = "capabilities after TLS"
	return c.expect("STARTTLS", "STARTTLS refused")
}

// maxQuoted is the length of a quoted string at most (RFC 5804, section 4).
const maxQuoted = 1024

func (c *sieve) login(user, password string) error {
	switch {
	case !slices.Contains(strings.Fields(strings.ToUpper(c.caps["SASL"])), "PLAIN"):
		return errNoSASLPlain
	case strings.Contains(user+password, "\x00"):
		return errNUL
	}
	blob := b64(plain(user, password))
	arg, shown := `"`+blob+`"`, `"`+stars+`"`
	if len(blob) > maxQuoted {
		arg = fmt.Sprintf("{%d+}\r\n%s", len(blob), blob)
	}
	if err := c.confide("login", `AUTHENTICATE "PLAIN" `+arg, `AUTHENTICATE "PLAIN" `+shown); err != nil {
		return err
	}
	return c.expect("login", "login refused")
}

func (c *sieve) logout() {
	if c.send("LOGOUT", "LOGOUT") == nil {
		_, _ = c.response("LOGOUT")
	}
}

// expect reads the response to a command. What it says if that is NO comes after
// refused.
func (c *sieve) expect(stage, refused string) error {
	r, err := c.response(stage)
	if err != nil {
		return err
	}
	if kind, text := word(r.said); kind == "NO" {
		return c.said(refused, text)
	}
	return c.verdict(stage, r)
}

// verdict turns a response that is no capability into an error. BYE is one.
func (c *sieve) verdict(stage string, r sieveResponse) error {
	switch first := r.tokens[0]; {
	case first.quoted:
	case strings.EqualFold(first.text, "OK"):
		return nil
	case strings.EqualFold(first.text, "NO"), strings.EqualFold(first.text, "BYE"):
		return c.said(stage, r.said)
	}
	return c.said(stage, "not a response of ManageSieve: "+r.said)
}

// A sieveResponse is one, or a capability.
type sieveResponse struct {
	said   string // as it was, its literals too
	tokens []sieveToken
}

// A sieveToken is a string, quoted or literal, or a word or parenthesis.
type sieveToken struct {
	text   string
	quoted bool
}

// response reads tokens up to the end of a line that announces no literal. It
// has one token at least.
func (c *sieve) response(stage string) (r sieveResponse, err error) {
	rest, err := c.line(stage)
	r.said = rest
	for err == nil {
		rest = strings.TrimLeft(rest, " ")
		if rest == "" {
			break
		}
		var t sieveToken
		switch rest[0] {
		case '"':
			var ok bool
			if t.text, rest, ok = unquote(rest); !ok {
				return r, c.said(stage, "a quoted string does not end: "+r.said)
			}
			t.quoted = true
		case '{':
			n, ok := literalSize(rest)
			if !ok || strings.LastIndexByte(rest, '{') > 0 {
				return r, c.said(stage, "not a literal: "+r.said)
			}
			if t.text, err = c.literal(stage, n); err != nil {
				return r, err
			}
			rest, err = c.line(stage)
			t.quoted, r.said = true, r.said+" "+t.text+rest
		case '(', ')':
			t.text, rest = rest[:1], rest[1:]
		default:
			end := strings.IndexAny(rest, ` ()"{`)
			if end < 0 {
				end = len(rest)
			}
			t.text, rest = rest[:end], rest[end:]
		}
		r.tokens = append(r.tokens, t)
	}
	if err == nil && len(r.tokens) == 0 {
		err = c.said(stage, "an empty line")
	}
	return r, err
}

// unquote takes the quoted string apart with which text begins (RFC 5804,
// section 4), and returns what comes after it.
func unquote(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}
