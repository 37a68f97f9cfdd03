package dovecot

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

// appendFail writes FAIL. A denial looks the same whatever refused, unless the
// policy gave a text. A name that is over the limit is not repeated: escaped,
// it could make a line that is too long for the client.
func appendFail(b []byte, id uint32, d *proxy.Decision) []byte {
	b = appendCommand(b, "FAIL", id)
	if d.User != "" && len(d.User) <= proxy.MaxUserLen {
		b = append(b, "\tuser="...)
		b = appendEscaped(b, d.User)
	}
	switch {
	case d.Outcome != proxy.Denied:
		b = append(b, "\tcode=temp_fail"...)
	case d.Reason == proxy.UserDisabled:
		b = append(b, "\tcode=user_disabled"...)
	}
	if d.Outcome == proxy.Denied && d.Text != "" {
		b = append(b, "\treason="...)
		b = appendEscaped(b, oneLine(d.Text))
	}
	return append(b, '\n')
}

// appendFailCode writes a FAIL for a line that never became a request.
func appendFailCode(b []byte, id uint32, code string) []byte {
	b = appendCommand(b, "FAIL", id)
	if code != "" {
		b = append(b, "\tcode="...)
		b = append(b, code...)
	}
	return append(b, '\n')
}

// appendContinue writes a CONT with the server's next piece of SASL data.
func appendContinue(b []byte, id uint32, data string) []byte {
	b = append(appendCommand(b, "CONT", id), '\t')
	b = base64.StdEncoding.AppendEncode(b, []byte(data))
	return append(b, '\n')
}

// appendCancelled answers a CANCEL, which clients from minor version 4 on wait for.
func appendCancelled(b []byte, id uint32) []byte {
	return append(appendCommand(b, "CANCELLED", id), '\n')
}

// oneLine makes a text fit for clients: CR, LF and other control bytes become
// spaces, and it ends after 400 bytes.
func oneLine(s string) string {
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "")
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// A routing holds what routed replies carry, whoever they answer.
type routing struct {
	refresh    int // seconds
	masterUser string
	masterPass proxy.Secret
}

// appendOK writes standalone's OK, or PASS, for a routed or passed decision.
// tokenMech is the mechanism by which the backend is shown the password, empty
// where it is no token.
func (rt *routing) appendOK(b []byte, verb string, id uint32, d *proxy.Decision, tokenMech string) []byte {
	b = appendCommand(b, verb, id)
	b = appendField(b, "user", d.User)
	if d.Outcome == proxy.Passed {
		return append(b, '\n')
	}
	b = append(b, "\tproxy"...)
	tls, user := false, d.User // user: at the backend
	set := func(name, value string, bare bool) {
		switch {
		case slices.Contains(reserved, name):
			return
		case name == "ssl" || name == "starttls":
			tls = true
		case name == "destuser" && value != "":
			user = value
		case name == "proxy_mech" || name == "master": // master users log in by PLAIN
			tokenMech = ""
		}
		b = append(b, '\t')
		b = append(b, name...)
		if !bare {
			b = append(b, '=')
			b = appendEscaped(b, value)
		}
	}
	for _, f := range d.Fields {
		if i := changeOf(d.Changes, f.Name); i < 0 {
			set(f.Name, f.Value, f.Bare)
		}
	}
	for _, c := range d.Changes {
		switch {
		case !c.Remove:
			set(c.Name, c.Value, c.Bare)
		case c.Name == "proxy_mech":
			tokenMech = ""
		}
	}
	if d.Port != 0 {
		b = append(b, "\tport="...)
		b = strconv.AppendInt(b, int64(d.Port), 10)
	}
	b = appendTLS(b, d.Entry, tls)
	if tokenMech != "" {
		b = appendField(b, "proxy_mech", backendMech(tokenMech, user))
	}
	// All mechanisms here show the password, and one that is empty proves
	// nothing: the configured master user is not for them.
	if !d.Password.IsEmpty() {
		b = appendField(b, "pass", d.Password.Reveal())
	}
	return append(rt.appendHost(b, d, false), '\n')
}

// reserved are fields that appendOK writes itself.
var reserved = []string{"user", "pass", "proxy", "host", "hostip", "port", "nologin", "proxy_refresh", "password"}

// appendRouted writes the auth server's OK (rest: what stood behind its id)
// with the routing fields: port and hostip replaced where they stand, all else
// left byte for byte but for what the policy changed; then what is new.
func (rt *routing) appendRouted(b []byte, verb string, id uint32, rest string, have replyHas, passwordSeen bool, d *proxy.Decision) []byte {
	b = appendCommand(b, verb, id)
	written := make([]bool, len(d.Changes))
	for i := range d.Changes {
		have.master = have.master || !d.Changes[i].Remove && d.Changes[i].Name == "master"
	}
	// Without any password nobody would be let in at the backend.
	asMaster := verb == "OK" && !passwordSeen && (!have.pass || have.emptyPass) && !have.master && rt.masterUser != ""
	port, hostip := d.Port == 0, false
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		name, _, _ := strings.Cut(field, "=")
		switch {
		case name == "port" && d.Port != 0:
			b = append(b, "\tport="...)
			b = strconv.AppendInt(b, int64(d.Port), 10)
			port = true
			continue
		case name == "hostip":
			b = appendAddr(b, d.Addr)
			hostip = true
			continue
		case name == "host" || name == "proxy_refresh":
			continue // an empty host, or another router's interval
		case name == "pass" && asMaster:
			continue
		}
		if i := changeOf(d.Changes, name); i >= 0 {
			if !written[i] {
				b = appendChange(b, &d.Changes[i])
			}
			written[i] = true
			continue
		}
		b = append(b, '\t')
		b = append(b, field...)
	}
	for i := range d.Changes {
		c := &d.Changes[i]
		if !written[i] {
			b = appendChange(b, c)
		}
		have.tls = have.tls || !c.Remove && (c.Name == "ssl" || c.Name == "starttls")
	}
	if have.maybe && !have.proxy {
		b = append(b, "\tproxy"...)
	}
	if !port {
		b = append(b, "\tport="...)
		b = strconv.AppendInt(b, int64(d.Port), 10)
	}
	b = appendTLS(b, d.Entry, have.tls)
	switch {
	case asMaster:
		b = appendField(b, "master", rt.masterUser)
		b = appendField(b, "pass", rt.masterPass.Reveal())
	case verb == "OK" && passwordSeen && !have.pass && !have.master:
		b = appendField(b, "pass", d.Password.Reveal())
	}
	return append(rt.appendHost(b, d, hostip), '\n')
}

// appendPassed writes the auth server's reply as it came; for a local login
// without the `proxy` that may stand beside director_proxy_maybe.
func appendPassed(b []byte, verb string, id uint32, rest string, d *proxy.Decision) []byte {
	b = appendCommand(b, verb, id)
	for field := range strings.SplitSeq(rest, "\t") {
		if d.Reason != proxy.IsSelf || field != "proxy" && !strings.HasPrefix(field, "proxy=") {
			b = append(append(b, '\t'), field...)
		}
	}
	return append(b, '\n')
}

func changeOf(changes []proxy.Change, name string) int {
	for i := range changes {
		if changes[i].Name == name {
			return i
		}
	}
	return -1
}

func appendChange(b []byte, c *proxy.Change) []byte {
	if c.Remove {
		return b
	}
	b = append(b, '\t')
	b = append(b, c.Name...)
	if c.Bare {
		return b
	}
	b = append(b, '=')
	return appendEscaped(b, c.Value)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, '\t')
	b = append(b, name...)
	b = append(b, '=')
	return appendEscaped(b, value)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	b = append(b, "\thostip="...)
	return a.AppendTo(b)
}

// appendTLS turns an entry's TLS settings into fields, unless some are set.
func appendTLS(b []byte, e *proxy.Entry, set bool) []byte {
	if e == nil || set {
		return b
	}
	switch {
	case e.TLS:
		b = append(b, "\tssl"...)
	case e.StartTLS:
		b = append(b, "\tstarttls"...)
	default:
		return b
	}
	if e.TLSSkipVerify {
		b = append(b, "=any-cert"...)
	}
	return b
}

// appendHost ends a routed reply: proxy_refresh, host and, where the host is a
// name, hostip. The trailing dot of an absolute name is left out: login
// processes compare the name with the certificate's.
func (rt *routing) appendHost(b []byte, d *proxy.Decision, hostip bool) []byte {
	b = append(b, "\tproxy_refresh="...)
	b = strconv.AppendInt(b, int64(rt.refresh), 10)
	host := strings.TrimSuffix(d.Host, ".")
	b = appendField(b, "host", host)
	if _, err := netip.ParseAddr(host); err != nil && !hostip {
		b = appendAddr(b, d.Addr)
	}
	return b
}

// appendCommand writes a verb and an id, without an end.
func appendCommand(b []byte, verb string, id uint32) []byte {
	b = append(b, verb...)
	b = append(b, '\t')
	return strconv.AppendUint(b, uint64(id), 10)
}
