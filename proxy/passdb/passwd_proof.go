package passdb

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"usher/proxy"
)

// plain is a password that stands in the file as it is: the one form that can
// answer to methods in which the client only proves that it knows it.
type plain struct {
	digest
	secret proxy.Secret
}

// keyed is a stored password that is known well enough to be the key of HMAC-MD5.
type keyed interface {
	hmacMD5(text string) ([]byte, error)
}

func (p *plain) hmacMD5(text string) ([]byte, error) {
	mac := hmac.New(md5.New, []byte(p.secret.Reveal()))
	mac.Write([]byte(text))
	return mac.Sum(nil), nil
}

// proven reports whether a client that showed no password is the user all the
// same, and returns the password to log in at the backend with: the one of the
// file, or pass= of the extra fields. Without one nobody could be logged in.
//
//	apop      MD5 of salt and password (RFC 1939 section 7)
//	cram-md5  HMAC-MD5 of the salt, the password being the key (RFC 2195), for
//	          which {CRAM-MD5} will do too
//	external  the client's certificate, which the proxy has verified, has the
//	          user's name as its only CN
//
// An error is ours, never the client's.
func (e *entry) proven(r *proxy.Request) (backend proxy.Secret, ok bool, err error) {
	p, isPlain := e.password.(*plain)
	if isPlain {
		backend = p.secret
	}
	if e.extra != nil && !e.extra.pass.IsEmpty() {
		backend = e.extra.pass
	}
	if backend.IsEmpty() || e.locked() {
		return proxy.Secret{}, false, nil
	}
	switch r.Method {
	case "apop":
		if !isPlain || r.Salt == "" {
			return proxy.Secret{}, false, nil
		}
		sum := md5.Sum([]byte(r.Salt + p.secret.Reveal()))
		ok = sameHex(sum[:], r.Password)
	case "cram-md5":
		k, isKeyed := e.password.(keyed)
		if !isKeyed || r.Salt == "" {
			return proxy.Secret{}, false, nil
		}
		mac, err := k.hmacMD5(r.Salt)
		if err != nil {
			return proxy.Secret{}, false, fmt.Errorf("cram-md5: %w", err)
		}
		ok = sameHex(mac, r.Password)
	case "external":
		ok = certified(r)
	}
	if !ok {
		return proxy.Secret{}, false, nil
	}
	return backend, true, nil
}

// locked reports whether no password fits, of a user who needs one.
func (e *entry) locked() bool { return e.password == nil && (e.extra == nil || !e.extra.noPassword) }

// certified reports whether the client's certificate is the user's.
func certified(r *proxy.Request) bool {
	return r.TLS.ClientVerify == "SUCCESS" && r.TLS.ClientCN != "" && lower(r.TLS.ClientCN) == lower(r.User)
}

// sameHex compares a digest with what a client says that it is, in hex.
func sameHex(sum []byte, said proxy.Secret) bool {
	want := hex.EncodeToString(sum)
	return subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(said.Reveal()))) == 1
}
