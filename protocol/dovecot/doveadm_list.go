package dovecot

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"

	"usher/proxy/moves"
)

var (
	errManySessions = errors.New("more than a million sessions")
	errBadList      = errors.New("a list of sessions in an unknown form")
)

// maxWidth is the widest row that is looked for, in values: Dovecot adds one for
// each `user_…` field that a password database has given.
const maxWidth = 32

// A doveadmRow is a session as Dovecot lists it.
type doveadmRow struct {
	user, service string
	remote, host  string // IP addresses as netip writes them, or ""
	pid           string // of `who`
}

// A columns says where a row of that width has what; -1: nowhere.
type columns struct{ service, pid, remote, host, port int }

// whoColumns: username, service, pid, ip; from 2.4 on dest_ip and the user_ fields
// (doveadm-who.c).
func whoColumns(dialect doveadmDialect) columns {
	if dialect == doveadm23 {
		return columns{service: 1, pid: 2, remote: 3, host: -1, port: -1}
	}
	return columns{service: 1, pid: 2, remote: 3, host: 4, port: -1}
}

// proxyColumns: username, the user_ fields, service, src-ip, dest-ip, dest-port
// (login-proxy.c of 2.3).
func proxyColumns(width int) columns {
	return columns{service: width - 4, pid: -1, remote: width - 3, host: width - 2, port: width - 1}
}

// parseWho reads what `who` of sessions one by one prints. width 0: it is found out.
func parseWho(values []byte, dialect doveadmDialect, width int) ([]doveadmRow, error) {
	if len(values) == 0 {
		return nil, nil
	}
	at := whoColumns(dialect)
	least, most := 5, maxWidth
	if dialect == doveadm23 {
		least, most = 4, 4
	}
	if width != 0 {
		least, most = max(least, width), width
	}
	for w := least; w <= most; w++ {
		if fits(values, w, at) {
			return readRows(nil, values, w, at)
		}
	}
	return nil, errBadList
}

// parseProxyList reads what `proxy list` of 2.3 prints. Each login process begins
// with its names of columns, which may be more or fewer than another's; the first
// are the list's own: width, if that is known.
func parseProxyList(values []byte, width int) ([]doveadmRow, error) {
	var rows []doveadmRow
	for len(values) > 0 {
		part, next, rest := cutAtHeader(values)
		var err error
		if rows, err = readProcess(rows, part, width); err != nil {
			return nil, err
		}
		values, width = rest, next
	}
	return rows, nil
}

// readProcess appends the rows of one login process, or of several that have the
// same columns.
func readProcess(rows []doveadmRow, part []byte, width int) ([]doveadmRow, error) {
	if len(part) == 0 {
		return rows, nil
	}
	least, most := 5, maxWidth
	if width != 0 {
		least, most = max(least, width), width
	}
	for w := least; w <= most; w++ {
		if at := proxyColumns(w); fits(part, w, at) {
			return readRows(rows, part, w, at)
		}
	}
	return nil, errBadList
}

// proxyHeader ends the names of columns, whose first is `username`.
var proxyHeader = []byte("service\tsrc-ip\tdest-ip\tdest-port\t")

// cutAtHeader splits a list before and behind the first names of columns in it;
// width is how many they are. No user can imitate them: addresses are among them.
func cutAtHeader(values []byte) (before []byte, width int, behind []byte) {
	const first = "username\t"
	for from := 0; ; {
		i := bytes.Index(values[from:], proxyHeader)
		if i < 0 {
			return values, 0, nil
		}
		i += from
		from = i + 1
		if i > 0 && values[i-1] != '\t' {
			continue // the end of a longer value
		}
		start := bytes.LastIndex(values[:i], []byte(first))
		for start > 0 && values[start-1] != '\t' {
			start = bytes.LastIndex(values[:start], []byte(first)) // user_username
		}
		if start < 0 {
			continue
		}
		end := i + len(proxyHeader)
		return values[:start], bytes.Count(values[start:end], []byte{'\t'}), values[end:]
	}
}

// fits reports whether values are whole rows of that width.
func fits(values []byte, width int, at columns) bool {
	i := 0
	for len(values) > 0 {
		value, rest, ok := bytes.Cut(values, []byte{'\t'})
		if !ok || !at.fits(i, value) {
			return false
		}
		values = rest
		if i++; i == width {
			i = 0
		}
	}
	return i == 0
}

func (at *columns) fits(i int, value []byte) bool {
	switch i {
	case at.service:
		return len(value) > 0
	case at.pid, at.port:
		return len(value) > 0 && len(value) <= 10 && len(bytes.Trim(value, "0123456789")) == 0
	case at.remote, at.host:
		_, ok := plainIP(string(value))
		return ok
	}
	return true
}

// readRows appends rows that fit.
func readRows(rows []doveadmRow, values []byte, width int, at columns) ([]doveadmRow, error) {
	if bytes.Count(values, []byte{'\t'})/width > moves.MaxSessions-len(rows) {
		return nil, errManySessions
	}
	services := map[string]string{} // so that a million rows share few strings
	for len(values) > 0 {
		var r doveadmRow
		for i := range width {
			var value []byte
			value, values, _ = bytes.Cut(values, []byte{'\t'})
			switch i {
			case 0:
				r.user = unescape(string(value))
			case at.service:
				s, ok := services[string(value)]
				if !ok {
					s = strings.TrimSuffix(unescape(string(value)), "-login") // of a 2.4 proxy
					services[string(value)] = s
				}
				r.service = s
			case at.pid:
				r.pid = string(value)
			case at.remote:
				r.remote, _ = plainIP(string(value))
			case at.host:
				r.host, _ = plainIP(string(value))
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// plainIP returns an address as netip writes it, IPv4 in IPv6 as IPv4. "" is none,
// which is fine: the client of a unix socket.
func plainIP(s string) (string, bool) {
	if s == "" {
		return "", true
	}
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", false
	}
	return a.Unmap().String(), true
}
