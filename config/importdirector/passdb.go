package importdirector

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A passdb is one password database, as far as its fields can be seen.
type passdb struct {
	line     int
	driver   string
	protocol string // the `protocol` section that it stands in; "": all
	fields   []field
}

type field struct{ key, value string }

// get returns the field that counts, the last one.
func (p *passdb) get(key string) (string, bool) {
	for _, f := range slices.Backward(p.fields) {
		if f.key == key {
			return f.value, true
		}
	}
	return "", false
}

// returnsFields are the drivers that can return fields of their own for a user.
var returnsFields = []string{"sql", "ldap", "passwd-file", "lua", "dict", "checkpassword", "oauth2"}

// passdbs reads the ports and the TLS that password databases set, and notes
// what else they do to a proxied login.
func (r *reader) passdbs() {
	var all []passdb
	for _, s := range r.root.all("passdb") {
		all = append(all, r.passdb(s, ""))
	}
	for _, p := range r.root.all("protocol") {
		for _, s := range p.all("passdb") {
			all = append(all, r.passdb(s, p.name))
		}
	}
	proxied := false
	for i := range all {
		proxied = r.notePassdb(&all[i]) || proxied
	}
	if !proxied {
		r.note(0, "passdb", "none can be seen to set proxy: who is not proxied is logged in here, as before")
	}
	r.endpoints(all)
}

// passdb reads one section. Later fields count: those of default_fields are
// overridden by the driver's, all by override_fields.
func (r *reader) passdb(s *section, protocol string) passdb {
	driver, _ := s.get("driver")
	p := passdb{line: s.line, driver: driver.value, protocol: protocol}
	keys := []string{"default_fields", "args", "override_fields"}
	if p.driver != "static" {
		keys = []string{"default_fields", "override_fields"}
	}
	for _, key := range keys {
		v, _ := s.get(key)
		if v.cut {
			r.note(v.line, key, "a # without a blank before it: what follows was taken for a comment, as Dovecot does")
		}
		for word := range strings.SplitSeq(v.value, " ") {
			if word != "" {
				k, value, _ := strings.Cut(word, "=")
				p.fields = append(p.fields, field{k, value})
			}
		}
	}
	return p
}

// notePassdb notes what a password database does, and reports whether it may
// make a login a proxied one. Of the fields it shows names only, since values
// may be secrets.
func (r *reader) notePassdb(p *passdb) (proxied bool) {
	var names []string
	for _, name := range []string{"director_proxy_maybe", "director_tag", "destuser", "host", "master", "pass", "port", "protocol", "proxy", "proxy_maybe", "ssl", "starttls", "user"} {
		if _, ok := p.get(name); ok {
			names = append(names, name)
			proxied = proxied || strings.Contains(name, "proxy")
		}
	}
	if len(names) > 0 {
		text := "passed on as before"
		if slices.Contains(names, "port") {
			text += ", but port is replaced by the backend's"
		}
		r.note(p.line, "passdb", "sets %s: %s", strings.Join(names, ", "), text)
	}
	if _, ok := p.get("host"); ok {
		r.note(p.line, "passdb", "sets host: neither the director nor usher routes those users")
	}
	if slices.Contains(returnsFields, p.driver) {
		proxied = true
		r.note(p.line, "passdb", "driver %s: what it returns for a user cannot be seen here; a port that it returns is replaced by the backend's", p.driver)
	}
	return proxied
}

// A finder looks for what a field is for a protocol.
type finder struct {
	all []passdb
	// differ are the protocols that a password database sets a port for, and
	// that have the port of another one.
	differ map[*passdb][]string
}

// find returns the value of a field for a protocol and the password database
// that sets it: those of the protocol's own section come first.
func (f *finder) find(key, protocol string) (value string, from *passdb) {
	for _, own := range []bool{true, false} {
		for i := range f.all {
			p := &f.all[i]
			other, not := strings.CutPrefix(p.protocol, "!")
			if (p.protocol != "") != own || own && not == (other == protocol) {
				continue
			}
			v, ok := p.get(key)
			switch {
			case !ok:
			case from == nil:
				value, from = v, p
			case v != value && key == "port":
				f.differ[p] = append(f.differ[p], protocol)
			}
		}
	}
	return value, from
}

// endpoints sets the ports and the TLS of the backends.
func (r *reader) endpoints(all []passdb) {
	f := &finder{all: all, differ: map[*passdb][]string{}}
	shared := map[*passdb][]string{}
	odd := map[*passdb][]string{}
	for i := range r.d.backends {
		b := &r.d.backends[i]
		ssl, withSSL := f.find("ssl", b.section)
		start, withStart := f.find("starttls", b.section)
		b.startTLS = withStart != nil
		b.tls = withSSL != nil && !b.startTLS
		b.anyCert = ssl == "any-cert" || start == "any-cert"
		b.from = "Dovecot's default"
		if withSSL != nil {
			b.port = b.tlsPort
		}
		if b.section == "lmtp" {
			r.lmtpPort(b, f)
		}
		value, p := f.find("port", b.section)
		if p == nil {
			continue
		}
		if n, ok := port(value); ok {
			b.port, b.from = n, fmt.Sprintf("passdb, line %d", p.line)
			if p.protocol == "" && len(r.d.backends) > 1 {
				shared[p] = append(shared[p], b.section)
			}
		} else {
			odd[p] = append(odd[p], fmt.Sprintf("%d for %s", b.port, b.section))
		}
	}
	for i := range all {
		p := &all[i]
		for _, x := range []struct {
			list   []string
			format string
		}{
			{shared[p], "port is the same for all protocols here (%s): look at it"},
			{odd[p], "its port is not a number; taken instead: %s, look at it"},
			{f.differ[p], "its port is not taken, another passdb's came first: %s"},
		} {
			if len(x.list) > 0 {
				r.note(p.line, "passdb", x.format, strings.Join(x.list, ", "))
			}
		}
	}
}

// port reads a port; 0 is none.
func port(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && n > 0
}

// lmtpPort: without a port the LMTP proxy takes that of the field protocol, else
// the one that its own client came to.
func (r *reader) lmtpPort(b *backend, f *finder) {
	switch protocol, _ := f.find("protocol", "lmtp"); protocol {
	case "smtp":
		b.port = 25
		return
	case "lmtp":
		return
	}
	for _, s := range r.root.merged("service") {
		if s.name != "lmtp" {
			continue
		}
		for _, l := range s.merged("inet_listener") {
			v, _ := l.get("port")
			if n, ok := port(v.value); ok {
				b.port, b.from = n, "this proxy's own LMTP port"
				return
			}
		}
	}
}
