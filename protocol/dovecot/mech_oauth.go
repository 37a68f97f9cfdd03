package dovecot

import (
	"errors"
	"fmt"
	"strings"

	"usher/proxy"
)

// oauth is a mechanism whose one message shows a bearer token.
type oauth struct {
	parse func(message string) (user, token string, err error)
	told  string // of a refused token
}

var (
	// RFC 7628; its section 3.2.2 has the words.
	oauthBearer = &oauth{parseOAuthBearer, `{"status":"invalid_token"}`}
	// As Gmail and Dovecot have it.
	xoauth2 = &oauth{parseXOAuth2, `{"status":"401","schemes":"bearer","scope":"mail"}`}
)

func (*oauth) prompt() string    { return "" }
func (o *oauth) refusal() string { return o.told }

func (o *oauth) take(r *proxy.Request, response string) (done bool, err error) {
	user, token, err := o.parse(response)
	if err != nil {
		return false, err
	}
	r.User, r.Password = user, proxy.NewSecret(token)
	return true, nil
}

// Faults of an OAUTHBEARER or XOAUTH2 message.
var (
	errNoToken = errors.New("no bearer token (auth=Bearer TOKEN)")
	errNoName  = errors.New("no user name")
)

// parseOAuthBearer splits the message of SASL OAUTHBEARER (RFC 7628 section 3.1):
// a GS2 header (RFC 5801 section 4), 0x01, then key=value pairs, 0x01 behind each
// of them and behind the last. The user is the header's authzid, without which
// nobody would know whose the token is.
func parseOAuthBearer(s string) (user, token string, err error) {
	header, rest, ok := strings.Cut(s, "\x01")
	if !ok {
		return "", "", errors.New("OAUTHBEARER: no key=value pairs")
	}
	flag, header, ok := strings.Cut(header, ",")
	switch {
	case !ok:
		return "", "", errors.New("OAUTHBEARER: no GS2 header")
	case flag != "n" && flag != "y":
		return "", "", errors.New("OAUTHBEARER: GS2 header: expected n or y (no channel binding)")
	}
	authzid, ok := strings.CutSuffix(header, ",")
	if !ok || strings.Contains(authzid, ",") {
		return "", "", errors.New("OAUTHBEARER: the GS2 header does not end")
	}
	if user, ok = strings.CutPrefix(authzid, "a="); !ok || user == "" {
		return "", "", fmt.Errorf("OAUTHBEARER: %w (a=USER in the GS2 header)", errNoName)
	}
	if user, ok = unescapeName(user); !ok {
		return "", "", errors.New("OAUTHBEARER: = in the user name; expected =2C or =3D")
	}
	if token, err = bearer(rest, nil); err != nil {
		return "", "", fmt.Errorf("OAUTHBEARER: %w", err)
	}
	return user, token, nil
}

// parseXOAuth2 splits Google's forerunner of it: user=USER, 0x01, auth=Bearer
// TOKEN, 0x01, 0x01.
func parseXOAuth2(s string) (user, token string, err error) {
	users := 0
	token, err = bearer(s, func(name, value string) {
		if name == "user" {
			user = value
			users++
		}
	})
	switch {
	case err != nil:
	case users > 1:
		err = errors.New("two user names")
	case user == "":
		err = fmt.Errorf("%w (user=USER)", errNoName)
	}
	if err != nil {
		return "", "", fmt.Errorf("XOAUTH2: %w", err)
	}
	return user, token, nil
}

// bearer returns the token of key=value pairs, the scheme in any case (RFC 9110
// section 11.1), and tells the others.
func bearer(pairs string, other func(name, value string)) (token string, err error) {
	pairs, ok := strings.CutSuffix(pairs, "\x01\x01")
	if !ok {
		return "", errors.New("no 0x01 0x01 at its end")
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok:
			return "", errors.New("something that is no key=value pair")
		case name != "auth":
			if other != nil {
				other(name, value)
			}
			continue
		case token != "":
			return "", errors.New("two tokens")
		}
		scheme, t, ok := strings.Cut(value, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || t == "" || !visible(t) {
			return "", errNoToken
		}
		token = t
	}
	if token == "" {
		return "", errNoToken
	}
	return token, nil
}

// unescapeName reads a saslname (RFC 5801 section 4): =2C is a comma, =3D an
// equals sign.
func unescapeName(s string) (string, bool) {
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "=")
		if !found {
			return saslPlain.Replace(s), true
		}
		if !strings.HasPrefix(after, "2C") && !strings.HasPrefix(after, "3D") {
			return "", false
		}
		rest = after[2:]
	}
}

var saslPlain = strings.NewReplacer("=2C", ",", "=3D", "=")

// backendMech returns the mechanism by which a login process shall show the
// backend a token, for the user whom it logs in as. Login processes (2.3 and 2.4,
// lib-sasl/mech-oauthbearer.c) do not escape the name in the GS2 header, so that
// `x,a=y` would log in as y; XOAUTH2 has nothing to escape.
func backendMech(mech, user string) string {
	if mech == "OAUTHBEARER" && strings.ContainsAny(user, ",=") {
		return "XOAUTH2"
	}
	return mech
}
