package config

import (
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"usher/proxy"
)

// maxUnixPath is what sun_path holds beside its terminating NUL (unix(7)).
const maxUnixPath = 107

const addressForm = "HOST:PORT, unix:/PATH or fd:NAME"

// An Address is a place to listen or to connect to.
type Address struct {
	Network string // "tcp", "unix", "fd" (a socket that the service manager opened), "": none
	Addr    string // host:port as net.Dial takes it; path; name
}

// ParseAddress reads HOST:PORT (also tcp:HOST:PORT), unix:/PATH or fd:NAME. An
// empty HOST and * are the wildcard.
func ParseAddress(s string) (Address, error) {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case !path.IsAbs(p) || hasControl(p):
			return Address{}, &valueError{expected: "unix:/PATH with an absolute path"}
		case len(p) > maxUnixPath:
			return Address{}, &valueError{"the path has " + strconv.Itoa(len(p)) + " bytes", "at most " + strconv.Itoa(maxUnixPath)}
		}
		return Address{"unix", p}, nil
	}
	if name, ok := strings.CutPrefix(s, "fd:"); ok {
		if !isName(name) {
			return Address{}, &valueError{expected: "fd:NAME of letters, digits, dot, dash and underscore"}
		}
		return Address{"fd", name}, nil
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "tcp:"))
	if err != nil {
		return Address{}, &valueError{expected: addressForm}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Address{}, &valueError{"bad port", "a number up to 65535"}
	} else {
		port = strconv.FormatUint(n, 10)
	}
	if host == "*" {
		host = ""
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !proxy.ValidHost(host) {
		return Address{}, &valueError{"bad host", "an IP address or a host name"}
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

// IsZero reports whether there is no address.
func (a Address) IsZero() bool { return a == Address{} }

// String returns the form that ParseAddress reads.
func (a Address) String() string {
	if a.Network == "tcp" || a.IsZero() {
		return a.Addr
	}
	return a.Network + ":" + a.Addr
}

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is no address.
func (a *Address) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	v, err := ParseAddress(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// hostPort splits a tcp address that ParseAddress made.
func (a Address) hostPort() (host, port string) {
	host, port, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return "", ""
	}
	return host, port
}

// offLoopback reports whether other machines may reach a listener there. The
// wildcard and every name but localhost count as reachable. Of fd:NAME nothing
// is known yet; Guard decides once it is.
func (a Address) offLoopback() bool {
	if a.Network != "tcp" {
		return false
	}
	host, _ := a.hostPort()
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.Unmap().IsLoopback()
	}
	return proxy.CanonicalHost(host) != "localhost"
}

// exposed is offLoopback for a bound socket.
func exposed(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return false
	case *net.TCPAddr:
		return !a.IP.IsLoopback()
	}
	return true
}

// isName: 1 to 64 letters, digits, dots, dashes and underscores.
func isName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
