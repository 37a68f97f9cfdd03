package proxy

import (
	"errors"
	"fmt"
	"strings"
)

// A HeaderOp is what a HeaderChange does.
type HeaderOp uint8

// The operations.
const (
	HeaderSet HeaderOp = iota
	HeaderAdd
	HeaderRemove
)

// A HeaderChange is what a policy does to the HTTP headers of the answer, where
// the proxy's protocol has such: nginx.
type HeaderChange struct {
	Op    HeaderOp
	Name  string
	Value string
}

// Longest name and value in bytes: nginx reads 1 KiB of an answer in all.
const (
	maxHeaderName  = 64
	maxHeaderValue = 512
)

// Valid returns an error for a change that no policy may make: a name that is no
// token (RFC 9110 section 5.6.2), or that says what becomes of the login
// (Auth-…) or how the answer is framed; a value with control bytes.
func (h HeaderChange) Valid() error {
	switch {
	case h.Name == "" || len(h.Name) > maxHeaderName || strings.ContainsFunc(h.Name, notToken):
		return fmt.Errorf("header name %.64q: expected 1-%d letters, digits or dashes", h.Name, maxHeaderName)
	case len(h.Value) > maxHeaderValue:
		return fmt.Errorf("header %s: a value of %d bytes, at most %d", h.Name, len(h.Value), maxHeaderValue)
	case strings.ContainsFunc(h.Value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
		return fmt.Errorf("header %s: a control byte in its value", h.Name)
	}
	switch name := strings.ToLower(h.Name); {
	case strings.HasPrefix(name, "auth-"):
		return errors.New("headers Auth-… are usher's own")
	case name == "connection", name == "content-length", name == "date", name == "keep-alive", name == "proxy-connection", name == "te", name == "trailer",
		name == "transfer-encoding", name == "upgrade":
		return fmt.Errorf("header %s is the server's own", h.Name)
	}
	return nil
}

// notToken reports whether a character may not stand in a token.
func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
