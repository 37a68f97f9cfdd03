package dovecot

import "usher/proxy"

// login is SASL LOGIN (draft-murchison-sasl-login): a user name, then a password.
type login struct{ named bool }

func (l *login) prompt() string {
	if l.named {
		return "Password:"
	}
	return "Username:"
}

func (*login) refusal() string { return "" }

func (l *login) take(r *proxy.Request, response string) (done bool, err error) {
	if l.named {
		r.Password = proxy.NewSecret(response)
		return true, nil
	}
	r.User, l.named = response, true
	return false, nil
}
