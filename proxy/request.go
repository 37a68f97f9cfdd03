package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// MaxUserLen is the longest user name in bytes that is let in.
const MaxUserLen = 255

// A Request is one login or look-up, as an adapter read it off the wire. All
// strings are the client's or the proxy's own words: hostile.
type Request struct {
	Adapter string // "dovecot" or "nginx"
	Session string // the proxy's name for the session; may span several requests

	Service  string // as the proxy names it: imap, pop3, smtp, submission, sieve, managesieve, lmtp, doveadm
	Protocol string // the backends' name of it, see ProtocolOf
	Method   string // SASL mechanism or Auth-Method, lower case

	User     string // as the client typed it
	Password Secret // empty where none was seen
	Salt     string // apop, cram-md5

	NoAuth  bool // nobody claims a password: userdb look-up, Auth-Method none
	Lookup  bool // a userdb look-up: the user must exist, and nobody is let in
	NoLogin bool // authenticate only, route nothing (Postfix, Exim)
	Attempt int  // nginx: login attempt on this connection, from 1

	Client     netip.AddrPort // invalid address: unknown
	Local      netip.AddrPort
	ClientHost string // reverse DNS as the proxy saw it
	ClientID   string // IMAP ID

	TLS Transport

	// Upstream is what a real auth server answered. It is nil in standalone
	// mode; where it is set, the password has been verified.
	Upstream *Upstream

	// AddressOnly says that the proxy takes nothing but a bare address in the
	// answer, and has no TLS toward backends: nginx.
	AddressOnly bool

	// ID is the decision's, and Notes what its scripts leave to those that run
	// later, the director's affair. The pipeline sets them; a request that is asked
	// again begins anew.
	ID    string
	Notes any

	// Headers are the names and values of an HTTP request, for policies, and URI is
	// what it asked for, with its query. Secrets are not among them.
	Headers map[string][]string
	URI     string
}

// Transport is what the proxy said of the client's TLS.
type Transport struct {
	Secured  bool // TLS, or a connection that the proxy trusts
	Protocol string
	Cipher   string

	ClientVerify      string // SUCCESS, NONE, FAILED…: nginx; Dovecot: SUCCESS if valid-client-cert
	ClientDN          string
	ClientCN          string
	ClientIssuer      string
	ClientSerial      string
	ClientFingerprint string
}

// Upstream holds what of an auth server's OK or PASS matters to routing.
type Upstream struct {
	User       string // user=
	DestUser   string // destuser=; empty: none
	Tag        string // director_tag=
	Port       int    // port=; 0: none
	ProxyMaybe bool   // director_proxy_maybe: this very proxy is a local login
	Fields     []Attr // the reply's other fields, in order, for policies
}

// Account is the user name that the request ends with: the upstream's when it
// named one, else the client's.
func (r *Request) Account() string {
	if r.Upstream != nil && r.Upstream.User != "" {
		return r.Upstream.User
	}
	return r.User
}

// ProtocolOf maps a service name to the name that backends carry: managesieve
// is sieve, submission is smtp.
func ProtocolOf(service string) string {
	switch service {
	case "managesieve":
		return "sieve"
	case "submission":
		return "smtp"
	}
	return service
}

// ErrBadName is wrapped by ValidUser's errors.
var ErrBadName = errors.New("bad user name")

// ValidUser checks the limits on user names: 1 to MaxUserLen bytes, no control
// bytes (0x00-0x1f, 0x7f). The error does not repeat the name.
func ValidUser(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrBadName)
	case len(name) > MaxUserLen:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrBadName, len(name), MaxUserLen)
	}
	for i := range len(name) {
		if isControl(name[i]) {
			return fmt.Errorf("%w: control byte 0x%02x at %d", ErrBadName, name[i], i)
		}
	}
	return nil
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7f }

// ValidHost reports whether s is an IP address without zone, or a host name by
// RFC 1123 section 2.1 (underscores allowed, one trailing dot allowed).
func ValidHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == "" && !a.IsUnspecified()
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	digits := true
	label := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label = 0
			continue
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
			digits = false
		case c == '-':
			if label == 0 {
				return false
			}
			digits = false
		case '0' <= c && c <= '9':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	// All digits and dots is an address that ParseAddr refused: 1.2.3, 1.2.3.999.
	return label > 0 && s[len(s)-1] != '-' && !digits
}

// CanonicalHost is the form in which hosts are compared: addresses as
// netip prints them (a mapped IPv4 address as IPv4), names in lower case and
// without the trailing dot.
func CanonicalHost(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}
