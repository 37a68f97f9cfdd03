package dovecot

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy"
)

// maxLine is the longest line in bytes, its LF included, that a client may
// send (AUTH_SERVER_CONN_MAX_LINE_LENGTH).
const maxLine = 16384

// appendEscaped appends s as a field's value: 0x01, TAB, LF, CR and NUL become
// 0x01 and a letter (strescape.c, str_tabescape).
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case 0x00:
			b = append(b, 0x01, '0')
		case 0x01:
			b = append(b, 0x01, '1')
		case '\t':
			b = append(b, 0x01, 't')
		case '\r':
			b = append(b, 0x01, 'r')
		case '\n':
			b = append(b, 0x01, 'n')
		default:
			b = append(b, c)
		}
	}
	return b
}

// unescape is the reverse. 0x01 before any other byte is that byte; at the end
// of s it is dropped.
func unescape(s string) string {
	i := strings.IndexByte(s, 0x01)
	if i < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	b = append(b, s[:i]...)
	for ; i < len(s); i++ {
		if s[i] != 0x01 {
			b = append(b, s[i])
			continue
		}
		if i++; i == len(s) {
			break
		}
		switch c := s[i]; c {
		case '0':
			b = append(b, 0x00)
		case '1':
			b = append(b, 0x01)
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case 'n':
			b = append(b, '\n')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// parseID reads a request id: decimal, 32 bits.
func parseID(s string) (uint32, bool) {
	if s == "" || s[0] == '+' {
		return 0, false
	}
	id, err := strconv.ParseUint(s, 10, 32)
	return uint32(id), err == nil
}

// command splits a line without its LF at the first two TABs: verb, id text and
// the rest behind the id ("" when nothing follows it).
func command(line string) (verb, id, rest string) {
	verb, rest, _ = strings.Cut(line, "\t")
	id, rest, _ = strings.Cut(rest, "\t")
	return verb, id, rest
}

// An authLine is a parsed AUTH.
type authLine struct {
	mech    string // upper case
	resp    string // base64; meaningful if hasResp
	hasResp bool
	req     proxy.Request
}

// Faults of an AUTH line that Dovecot's auth would close the connection for.
var (
	errNoMech    = errors.New("no mechanism")
	errNoService = errors.New("no service")
	errAfterResp = errors.New("fields after resp")
)

// parseAuth reads what stands behind AUTH and the id.
func parseAuth(rest string) (*authLine, error) {
	mech, rest, _ := strings.Cut(rest, "\t")
	if mech == "" {
		return nil, errNoMech
	}
	a, err := parseParams(rest)
	if err != nil {
		return nil, err
	}
	a.mech = strings.ToUpper(mech)
	a.req.Method = strings.ToLower(mech)
	return a, nil
}

// parseParams reads the parameters of an AUTH, PASS or USER. Unknown ones are
// skipped, addresses and ports that are none are left out.
func parseParams(rest string) (*authLine, error) {
	a := &authLine{}
	r := &a.req
	r.Adapter = "dovecot"
	var rip, lip netip.Addr
	var rport, lport uint16
	for rest != "" {
		if a.hasResp {
			return nil, errAfterResp
		}
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		name, value, _ := strings.Cut(field, "=")
		value = unescape(value)
		switch name {
		case "service", "protocol":
			r.Service = value
		case "resp":
			a.resp, a.hasResp = value, true
		case "secured":
			r.TLS.Secured = true
		case "session":
			r.Session = value
		case "rip":
			rip = parseAddr(value)
		case "lip":
			lip = parseAddr(value)
		case "rport":
			rport = parsePort(value)
		case "lport":
			lport = parsePort(value)
		case "client_id":
			r.ClientID = value
		case "ssl_protocol":
			r.TLS.Protocol = value
		case "ssl_cipher":
			r.TLS.Cipher = value
		case "valid-client-cert":
			r.TLS.ClientVerify = "SUCCESS"
		case "cert_username":
			r.TLS.ClientCN = value
		case "ssl_client_cert_fp":
			r.TLS.ClientFingerprint = value
		case "nologin":
			r.NoLogin = true
		}
	}
	if r.Service == "" {
		return nil, errNoService
	}
	r.Protocol = proxy.ProtocolOf(r.Service)
	r.Client, r.Local = netip.AddrPortFrom(rip, rport), netip.AddrPortFrom(lip, lport)
	return a, nil
}

func parseAddr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

func parsePort(s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// parseReply reads the fields of an auth server's OK that matter here. route
// says whether the director would have added a host: the reply is to be proxied
// and names none yet. A port that is none is an error of such a reply alone;
// others pass as they came.
func parseReply(rest string) (up *proxy.Upstream, have replyHas, route bool, err error) {
	up = &proxy.Upstream{}
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		name, value, eq := strings.Cut(field, "=")
		value = unescape(value)
		switch name {
		case "user":
			up.User = value
		case "destuser":
			up.DestUser = value
		case "director_tag":
			up.Tag = value
		case "port":
			n, bad := strconv.ParseUint(value, 10, 16)
			if err = nil; bad != nil {
				err = fmt.Errorf("upstream: port %.20q", value)
			}
			up.Port = int(n)
		case "proxy":
			have.proxy = true
		case "director_proxy_maybe":
			have.maybe = true
		case "host":
			have.host = value != ""
		case "nologin":
			have.nologin = true
		case "pass":
			have.pass, have.emptyPass = true, value == ""
			continue // policies see no password
		case "master":
			have.master = true
		case "ssl", "starttls":
			have.tls = true
		}
		up.Fields = append(up.Fields, proxy.Attr{Name: name, Value: value, Bare: !eq})
	}
	up.ProxyMaybe = have.maybe
	route = (have.proxy || have.maybe) && !have.host && (up.User != "" || up.DestUser != "")
	if !route {
		err = nil
	}
	return up, have, route, err
}

// replyHas says which fields an OK has.
type replyHas struct {
	proxy, maybe, host, pass, master, tls, nologin bool

	emptyPass bool // as Dovecot's auth gives it for EXTERNAL
}
