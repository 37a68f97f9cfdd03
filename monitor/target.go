package monitor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

// ErrNoBackend is wrapped by errors about a target that the inventory does not
// have.
var ErrNoBackend = errors.New("no such backend")

// A Target names a host, or those of its entries that have a port.
type Target struct {
	Host string // canonical
	Port int    // 0: the host
}

// String is HOST or HOST:PORT.
func (t Target) String() string { return proxy.HostPort(t.Host, t.Port) }

// ParseTarget reads HOST, HOST:PORT, or an IPv6 address with or without brackets.
func ParseTarget(s string) (Target, error) {
	host, port, err := splitTarget(s)
	if err != nil || !proxy.ValidHost(host) {
		return Target{}, fmt.Errorf("%.280q is no backend; expected HOST or HOST:PORT", s)
	}
	return Target{proxy.CanonicalHost(host), port}, nil
}

// splitTarget splits HOST[:PORT]. An IPv6 address with a port has brackets.
func splitTarget(s string) (host string, port int, err error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, 0, nil
	}
	var text string
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, text, ok = strings.Cut(rest, "]")
		if !ok || text != "" && text[0] != ':' {
			return "", 0, errors.New("brackets")
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, err
		}
		if text == "" {
			return host, 0, nil
		}
		text = text[1:]
	} else {
		var found bool
		if host, text, found = strings.Cut(s, ":"); !found {
			return host, 0, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("port")
	}
	return host, int(n), nil
}

// Find returns the entries that a target names, in the inventory's order. An
// error names what there is instead.
func (m *Monitor) Find(t Target) ([]proxy.Entry, error) {
	var out []proxy.Entry
	ports := []string{}
	for _, e := range m.Status() {
		if proxy.CanonicalHost(e.Host) != t.Host {
			continue
		}
		if t.Port == 0 || e.Port == t.Port {
			out = append(out, e)
		}
		ports = append(ports, e.Address())
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(ports) > 0:
		return nil, fmt.Errorf("%w: %s; the host has %s", ErrNoBackend, t, strings.Join(slices.Compact(ports), ", "))
	}
	return nil, fmt.Errorf("%w: %s", ErrNoBackend, t)
}
