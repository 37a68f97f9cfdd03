package importdirector

import (
	"path"
	"strings"
)

// variable expands the variables that owners of sockets are given as.
func (r *reader) variable(v string) string {
	switch v {
	case "$default_internal_user":
		return r.text("default_internal_user", "dovecot")
	case "$default_login_user":
		return r.text("default_login_user", "dovenull")
	case "$default_internal_group":
		return r.text("default_internal_group", "dovecot")
	}
	return v
}

// listenersOf returns the sockets of a kind that a service has. Without a mode it
// is 0600, but for two of the director's that are off by default (2.3
// src/director/director-settings.c).
func (r *reader) listenersOf(service, kind string) []listener {
	var out []listener
	for _, s := range r.root.merged("service") {
		if s.name != service {
			continue
		}
		for _, l := range s.merged(kind) {
			mode, _ := l.get("mode")
			if mode.value == "" {
				mode.value = "0600"
				if l.name == "login/director" || l.name == "login/proxy-notify" {
					mode.value = "0"
				}
			}
			user, _ := l.get("user")
			group, _ := l.get("group")
			path := l.name
			if p, ok := l.get("path"); ok && p.value != "" {
				path = p.value
			}
			out = append(out, listener{path, mode.value, r.variable(user.value), r.variable(group.value), l.line})
		}
	}
	return out
}

// off reports that a socket is not made.
func (l listener) off() bool { return strings.Trim(l.mode, "0") == "" }

// role is what the director takes a socket for: what stands after the last dash
// of its name (2.3 src/director/main.c, director_socket_type_get_from_name).
func (l listener) role() string {
	name := path.Base(l.path)
	return name[strings.LastIndexByte(name, '-')+1:]
}

// owned leaves out an owner or a group that can't be one: with neither, the
// socket is for root and usher alone.
func (r *reader) owned(l listener) listener {
	for _, name := range []*string{&l.owner, &l.group} {
		if strings.ContainsFunc(*name, func(c rune) bool { return c <= ' ' || c == '$' || c >= 0x7f }) {
			r.note(l.line, "unix_listener", "%s: %s is no name of a user or group; left out", show(l.path), show(*name))
			*name = ""
		}
	}
	return l
}

// listeners reads which sockets the director has.
func (r *reader) listeners() {
	r.d.admin = listener{path: "director-admin"}
	for _, l := range r.listenersOf("director", "unix_listener") {
		switch role := l.role(); {
		case path.Base(l.path) == "director-admin":
			if r.d.admin = r.owned(l); l.off() {
				r.d.admin = listener{}
			}
		case l.off():
		case role == "userdb":
			r.d.userdb = r.owned(l)
		case role == "admin" || role == "doveadm":
			r.note(l.line, "unix_listener", "%s: a second admin socket; usher has one", show(l.path))
		case role == "authreply" || role == "ring" || role == "notify":
			r.note(l.line, "unix_listener", "%s: no match for a socket of this kind", show(l.path))
		}
	}
	for _, l := range r.listenersOf("director", "fifo_listener") {
		if !l.off() {
			r.d.notify = l
		}
	}
	for _, s := range r.root.merged("service") {
		if s.name != "director" {
			continue
		}
		for _, l := range s.merged("inet_listener") {
			if role := (listener{path: l.name}).role(); role == "admin" || role == "doveadm" || role == "auth" || role == "userdb" {
				r.note(l.line, "inet_listener", "%s: no match for the director's sockets over TCP", show(l.name))
			}
		}
	}
	if r.d.notify.path == "" {
		r.note(0, "service director", "has no fifo_listener login/proxy-notify: assignments of long sessions expired, and will; a listener of kind notify keeps them")
	}
}
