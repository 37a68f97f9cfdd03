package importdirector

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// askers reads who asks the director, and so which protocols it serves.
func (r *reader) askers() {
	sockets := []string{"director"}
	for _, l := range r.listenersOf("director", "unix_listener") {
		sockets = append(sockets, strings.TrimPrefix(l.path, "login/"), l.path)
	}
	protocols, limited := r.root.get("protocols")
	limited = limited && protocols.value != "" && !strings.Contains(protocols.value, "$")
	enabled := func(name string) bool {
		return !limited || slices.Contains(strings.Fields(protocols.value), name)
	}
	for _, known := range loginServices {
		for _, s := range r.root.merged("service") {
			e, _ := s.get("executable")
			program, socket := loginSocket(e.value)
			if program != known.program || socket == "" {
				continue
			}
			switch {
			case !slices.Contains(sockets, strings.TrimPrefix(socket, r.d.base+"/login/")):
				r.note(e.line, "service "+known.program, "asks %s and not the director; left alone", show(socket))
			case !enabled(known.section):
				r.note(e.line, "service "+known.program, "asks the director, but protocols has no %s; left out", known.section)
			case !slices.Contains(r.d.logins, known.program):
				r.d.logins = append(r.d.logins, known.program)
				r.d.backends = append(r.d.backends, backend{service: known})
			}
		}
	}
	for _, name := range []string{"lmtp", "doveadm"} {
		s, ok := r.inProtocol(name, "auth_socket_path")
		if !ok || path.Base(s.value) != path.Base(cmp.Or(r.d.userdb.path, "director-userdb")) {
			continue
		}
		switch proxied, _ := r.inProtocol(name, "lmtp_proxy"); {
		case name == "lmtp" && proxied.value != "yes":
			r.note(s.line, "protocol lmtp", "asks the director, but lmtp_proxy is not yes: mail is delivered here; left out")
			continue
		case !enabled(name) && name == "lmtp":
			r.note(s.line, "protocol lmtp", "asks the director, but protocols has no lmtp; left out")
			continue
		case name == "lmtp":
			r.d.backends = append(r.d.backends, backend{service: service{section: "lmtp", inventory: "lmtp", port: 24, tlsPort: 24}})
		case r.text("doveadm_port", "0") == "0":
			r.note(s.line, "protocol doveadm", "asks the director, but only once doveadm_port is set")
		}
		r.d.lookups = append(r.d.lookups, name)
	}
	if len(r.d.lookups) > 0 {
		r.userdbAccess()
		if u := r.d.userdb; u.owner != "" && u.owner != "root" {
			r.note(u.line, "unix_listener", "%s belongs to %s: usher can give its socket away as root only, else take owner out and let a group in", show(u.path), show(u.owner))
		}
	}
	if len(r.d.backends) == 0 {
		r.note(0, "service director", "nothing asks it: neither a login service (executable = imap-login director) nor lmtp (auth_socket_path = director-userdb); backends for imap and pop3 are written")
		r.d.backends = []backend{{service: loginServices[0]}, {service: loginServices[1]}}
	}
}

// userdbAccess: at mode 0666 auth answers PASS and LIST to root and the socket's
// own user and group alone (2.3 src/auth/auth-master-connection.c).
func (r *reader) userdbAccess() {
	var real listener
	for _, l := range r.listenersOf("auth", "unix_listener") {
		if l.path == "auth-userdb" {
			real = l
		}
	}
	if real.group != "usher" {
		r.note(real.line, "service auth", "auth-userdb answers PASS only to root and the socket's own user or group: add `unix_listener auth-userdb { group = usher }` to it, on lines of their own")
	}
}

// loginSocket returns the program and the socket of a login service's
// executable, whose options are those of src/login-common/main.c.
func loginSocket(executable string) (program, socket string) {
	words := strings.Fields(executable)
	if len(words) == 0 {
		return "", ""
	}
	program = path.Base(words[0])
	for i := 1; i < len(words); i++ {
		w := words[i]
		if !strings.HasPrefix(w, "-") {
			return program, w
		}
		if len(w) == 2 && strings.Contains("lRcio", w[1:]) {
			i++ // its value
		}
	}
	return program, ""
}

// forProtocol returns the `protocol` sections that a protocol reads, `!NAME`
// included, the last first.
func (r *reader) forProtocol(name string) []*section {
	var out []*section
	for _, s := range r.root.all("protocol") {
		other, not := strings.CutPrefix(s.name, "!")
		if not != (other == name) {
			out = append(out, s)
		}
	}
	slices.Reverse(out)
	return out
}

// inProtocol returns a setting as a protocol reads it.
func (r *reader) inProtocol(name, key string) (setting, bool) {
	for _, s := range r.forProtocol(name) {
		if v, ok := s.get(key); ok {
			return v, true
		}
	}
	return r.root.get(key)
}
