package dovecot

import (
	"errors"
	"strings"

	"usher/proxy"
)

// plain is SASL PLAIN (RFC 4616).
type plain struct{}

func (plain) prompt() string  { return "" }
func (plain) refusal() string { return "" }

func (plain) take(r *proxy.Request, response string) (done bool, err error) {
	user, pass, err := parsePlain(response)
	if err != nil {
		return false, err
	}
	r.User, r.Password = user, proxy.NewSecret(pass)
	return true, nil
}

// parsePlain splits the message of SASL PLAIN (RFC 4616): authzid NUL authcid
// NUL passwd. An authzid that differs from authcid asks to act as somebody
// else, which nobody here can allow.
func parsePlain(s string) (user, pass string, err error) {
	authzid, rest, ok := strings.Cut(s, "\x00")
	if !ok {
		return "", "", errors.New("PLAIN: no NUL")
	}
	user, pass, ok = strings.Cut(rest, "\x00")
	switch {
	case !ok:
		return "", "", errors.New("PLAIN: no second NUL")
	case strings.IndexByte(pass, 0) >= 0:
		return "", "", errors.New("PLAIN: NUL in the password")
	case authzid != "" && authzid != user:
		return "", "", errors.New("PLAIN: authorization as another user")
	}
	return user, pass, nil
}
