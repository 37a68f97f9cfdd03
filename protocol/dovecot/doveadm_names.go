package dovecot

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// sayable reports why a user name can't be said to doveadm, whose strings end at a
// NUL; JSON has UTF-8 only.
func (d *Doveadm) sayable(user string) error {
	switch {
	case user == "":
		return errors.New("an empty user name")
	case len(user) > maxDoveadmName:
		return fmt.Errorf("user name %.80q…: %d bytes, at most %d", user, len(user), maxDoveadmName)
	case strings.IndexByte(user, 0) >= 0:
		return fmt.Errorf("user name %.80q: NUL", user)
	case d.web && !utf8.ValidString(user):
		return fmt.Errorf("user name %.80q: no UTF-8, which doveadm's HTTP API can't say; expected a tcp url", user)
	}
	return nil
}

// isMask reports whether Dovecot may take a user name for more than itself: for a
// pattern (wildcard-match.c) or for addresses of clients (doveadm-who.c).
func isMask(user string) bool { return strings.ContainsAny(user, "*?") || isNetwork(user) }

// isNetwork reports whether net_parse_range() may find an address or network in s:
// those of netip, [v6], and what inet_aton takes (10.1, 0x7f.1, anything behind a
// space). Digits alone are a name.
func isNetwork(s string) bool {
	addr, _, _ := strings.Cut(s, "/")
	if strings.Contains(addr, ":") {
		addr, _, _ = strings.Cut(addr, "%")
		return strings.Trim(addr, "0123456789abcdefABCDEF:.[]") == ""
	}
	if strings.Trim(s, "0123456789") == "" {
		return false
	}
	if i := strings.IndexAny(addr, " \t\n\v\f\r"); i >= 0 {
		addr = addr[:i]
	}
	parts := strings.Split(addr, ".")
	for _, p := range parts {
		digits := "0123456789"
		if len(p) > 1 && strings.EqualFold(p[:2], "0x") {
			p, digits = p[1:], digits+"abcdefABCDEFxX"
		}
		if p == "" || strings.Trim(p, digits) != "" {
			return false
		}
	}
	return len(parts) <= 4
}
