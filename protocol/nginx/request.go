package nginx

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

// parseRequest reads the headers of an auth_http request. The request is
// returned with what could be read also when there is an error, for the log.
func parseRequest(h http.Header) (*proxy.Request, error) {
	r := &proxy.Request{
		Adapter:     "nginx",
		Service:     h.Get("Auth-Protocol"),
		Method:      strings.ToLower(h.Get("Auth-Method")),
		Salt:        h.Get("Auth-Salt"),
		Client:      addrPort(h, "Client-Ip", "Proxy-Protocol-Addr", "X-Client-Port", "Proxy-Protocol-Port"),
		Local:       addrPort(h, "X-Local-Ip", "Proxy-Protocol-Server-Addr", "X-Auth-Port", "Proxy-Protocol-Server-Port"),
		ClientID:    h.Get("X-Client-Id"),
		AddressOnly: true,
		TLS: proxy.Transport{
			Secured:           h.Get("Auth-Ssl") == "on",
			Protocol:          h.Get("Auth-Ssl-Protocol"),
			Cipher:            h.Get("Auth-Ssl-Cipher"),
			ClientVerify:      h.Get("Auth-Ssl-Verify"),
			ClientDN:          h.Get("Auth-Ssl-Subject"),
			ClientIssuer:      h.Get("Auth-Ssl-Issuer"),
			ClientSerial:      h.Get("Auth-Ssl-Serial"),
			ClientFingerprint: h.Get("Auth-Ssl-Fingerprint"),
		},
	}
	r.Protocol = proxy.ProtocolOf(r.Service)
	r.TLS.ClientCN = commonName(r.TLS.ClientDN)
	if host := h.Get("Client-Host"); !strings.HasPrefix(host, "[") { // [UNAVAILABLE], [TEMPUNAVAIL]
		r.ClientHost = host
	}
	if n, err := strconv.Atoi(h.Get("Auth-Login-Attempt")); err == nil && n > 0 {
		r.Attempt = n
	}

	user, userErr := credential(h, "Auth-User")
	pass, passErr := credential(h, "Auth-Pass")
	r.User, r.Password = user, proxy.NewSecret(pass)
	// Policies may see the headers, but no secret among them.
	h.Del("Auth-Pass")
	h.Del(secretHeader)
	h.Del("Authorization") // an auth_http_header may carry one
	h.Del("Proxy-Authorization")
	h.Del("Cookie")
	r.Headers = h

	switch {
	case userErr != nil:
		return r, userErr
	case passErr != nil:
		return r, passErr
	case !slices.Contains([]string{"plain", "apop", "cram-md5", "external", "none"}, r.Method):
		return r, fmt.Errorf("Auth-Method: %.20q is none that nginx sends", r.Method)
	}
	r.NoAuth = r.Method == "none"
	if r.Method == "external" && r.User == "" && r.TLS.ClientVerify == "SUCCESS" {
		r.User = r.TLS.ClientCN // the client leaves it to its certificate
	}
	return r, nil
}

// credential reads Auth-User or Auth-Pass. nginx percent-encodes the bytes
// 0x00-0x20 and % and nothing else: `+` is a plus sign.
func credential(h http.Header, name string) (string, error) {
	values := h[http.CanonicalHeaderKey(name)]
	if len(values) > 1 {
		return "", fmt.Errorf("%s: sent %d times", name, len(values))
	}
	if len(values) == 0 {
		return "", nil
	}
	s, err := percentDecode(values[0])
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

var errPercent = errors.New("a % without two hex digits")

func percentDecode(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errPercent
		}
		hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
		if hi < 0 || lo < 0 {
			return "", errPercent
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// addrPort takes the first of two headers that holds an address, and the port
// that goes with it.
func addrPort(h http.Header, addr1, addr2, port1, port2 string) netip.AddrPort {
	a, err := netip.ParseAddr(h.Get(addr1))
	port := h.Get(port1)
	if err != nil {
		if a, err = netip.ParseAddr(h.Get(addr2)); err != nil {
			return netip.AddrPort{}
		}
		port = h.Get(port2)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		n = 0
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n))
}

// commonName takes the CN out of a subject as nginx writes it since 1.11.6 (RFC
// 2253: `CN=alice,O=Example`, special bytes behind a backslash). It is "" for one
// that has none, or several: nobody knows then whose certificate it is.
func commonName(dn string) string {
	name, found := "", false
	for dn != "" {
		end := 0
		for end < len(dn) && dn[end] != ',' && dn[end] != '+' {
			if dn[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(dn))
		part := strings.TrimLeft(dn[:end], " ")
		dn = dn[min(end+1, len(dn)):]
		value, ok := strings.CutPrefix(part, "CN=")
		switch {
		case !ok:
			continue
		case found:
			return ""
		}
		name, found = unescapeDN(value), true
	}
	return name
}

// unescapeDN reads \X and \HH (RFC 2253 section 2.4).
func unescapeDN(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+2 < len(s) {
			if hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}
