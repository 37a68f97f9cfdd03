package importdirector

import (
	"slices"
	"strconv"
)

// doveadms reads where the proxy's own doveadm server listens.
func (r *reader) doveadms() {
	secrets := []struct{ key, name string }{{"doveadm_api_key", "api_key"}, {"doveadm_password", "password"}}
	for _, x := range secrets {
		s, ok := r.root.get(x.key)
		if !ok || s.value == "" && !s.hidden {
			continue
		}
		r.note(s.line, x.key, "secrets are not taken over: put it into a file that only usher can read, and uncomment dovecot.doveadm")
		for _, svc := range r.root.merged("service") {
			if svc.name != "doveadm" {
				continue
			}
			for _, l := range svc.merged("inet_listener") {
				number, _ := l.get("port")
				ssl, _ := l.get("ssl")
				n, ok := port(number.value)
				web := l.name == "http"
				if !ok || web != (x.name == "api_key") {
					continue
				}
				scheme := "tcp:"
				switch {
				case web && ssl.value == "yes":
					scheme = "https://"
				case web:
					scheme = "http://"
				case ssl.value == "yes":
					r.note(l.line, "inet_listener", "doveadm's port %d wants TLS, which dovecot.doveadm has for HTTP only", n)
					continue
				}
				r.d.doveadm = append(r.d.doveadm, doveadm{scheme + "127.0.0.1:" + strconv.Itoa(n), x.name})
			}
		}
	}
	if s, ok := r.root.get("doveadm_port"); ok && s.value != "0" && !slices.Contains(r.d.lookups, "doveadm") {
		r.note(s.line, s.key, "`protocol doveadm` does not ask the director: doveadm finds users without usher too")
	}
}
