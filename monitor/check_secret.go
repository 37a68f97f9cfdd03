package monitor

import (
	"encoding/base64"
	"strconv"
	"strings"

	"usher/proxy"
)

// stars stand where a test password was.
const stars = "****"

// formsOf returns the texts in which a server can repeat a password that a check
// told it: SASL PLAIN's and HTTP Basic's blobs, base64 as SASL LOGIN sends it,
// quoted as IMAP and Go do it, and as it is; longest first. Base64 stands without its padding, so
// that both ways of writing it are found. No password has no forms.
func formsOf(user string, secret proxy.Secret) []string {
	if secret.IsEmpty() {
		return nil
	}
	password, b64 := secret.Reveal(), base64.RawStdEncoding
	quoted := strconv.Quote(password)
	return []string{
		b64.EncodeToString([]byte(plain(user, password))),
		b64.EncodeToString([]byte(user + ":" + password)),
		b64.EncodeToString([]byte(password)),
		quoted[1 : len(quoted)-1],
		password,
	}
}

// plain is the message of SASL PLAIN (RFC 4616, section 2).
func plain(user, password string) string { return "\x00" + user + "\x00" + password }

// hide returns text with stars instead of every form of the test password. It
// must see a text before that is cut or changed: a part of a password is found
// no more.
func (p *prober) hide(text string) string {
	for _, form := range p.secrets {
		text = strings.ReplaceAll(text, form, stars)
	}
	return text
}

// note tells trace a line: who says it, "C: ", "S: " or "* ", and what.
func (p *prober) note(who, text string) {
	if p.trace != nil {
		p.trace(printable(who+p.hide(text), maxTrace))
	}
}
