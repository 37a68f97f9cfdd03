package monitor

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"usher/proxy"
)

var errRecipient = errors.New("test_username is no address that RCPT can say")

// checkLMTP speaks LMTP (RFC 2033). Where the server offers AUTH, it logs in as
// SMTP does. Where it does not, which is usual, TestUsername is the recipient of
// a mail that is not sent: that says whether the server knows the user, and no
// password is told.
func checkLMTP(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	return converse(ctx, p, s, addr, func(c *session) dialogue { return &lmtp{smtp{session: c, hello: "LHLO"}} })
}

type lmtp struct{ smtp }

func (c *lmtp) login(user, password string) error {
	if _, offered := c.ext["AUTH"]; offered {
		return c.smtp.login(user, password)
	}
	path, ok := mailPath(user)
	if !ok {
		return errRecipient
	}
	if err := c.command("MAIL", "MAIL FROM:<>", 250); err != nil {
		return err
	}
	if err := c.command("RCPT", "RCPT TO:"+path, 250); err != nil {
		return err
	}
	return c.command("RSET", "RSET", 250)
}

// mailPath returns a user's name as a forward path (RFC 5321, section 4.1.2),
// with or without a domain. What is no atom is quoted.
func mailPath(user string) (path string, ok bool) {
	local, domain := user, ""
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		local, domain = user[:at], user[at:]
		if len(domain) == 1 || strings.ContainsFunc(domain[1:], notInDomain) {
			return "", false
		}
	}
	if local == "" || !isPrintableASCII(local) {
		return "", false
	}
	if strings.ContainsFunc(local, notInAtom) || strings.Contains("."+local+".", "..") {
		local, _ = quote(local)
	}
	return "<" + local + domain + ">", true
}

// domainChars are those of names and of address literals, the others those of a
// dot-string beside letters and digits (RFC 5321, section 4.1.2).
const (
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	domainChars = letters + ".-_:[]"
	atomChars   = letters + ".!#$%&'*+-/=?^_`{|}~"
)

func notInDomain(r rune) bool { return !strings.ContainsRune(domainChars, r) }

func notInAtom(r rune) bool { return !strings.ContainsRune(atomChars, r) }
