package importdirector

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"usher/config"
)

// maxNotes bounds what one file can make us say.
const maxNotes = 200

// A service is what a login process or the LMTP server speaks.
type service struct {
	program   string // of the login service
	section   string // as `protocol NAME {` and `protocols` call it
	inventory string // as usher's backend_servers call it
	port      int    // Dovecot's default toward the backend
	tlsPort   int    // with the field ssl
}

// From 2.3's src/*-login/client.c (struct login_binary) and Pigeonhole's; LMTP's
// default is the port that the client came to (src/lmtp/lmtp-proxy.c).
var loginServices = []service{
	{"imap-login", "imap", "imap", 143, 993},
	{"pop3-login", "pop3", "pop3", 110, 995},
	{"submission-login", "submission", "smtp", 587, 587},
	{"managesieve-login", "sieve", "sieve", 4190, 4190},
}

// A backend is how one protocol is spoken to every host.
type backend struct {
	service
	tls, startTLS, anyCert bool
	from                   string // where the port comes from
}

// A listener is a socket of the director.
type listener struct {
	path, mode, owner, group string
	line                     int
}

// A director is what a configuration says of it.
type director struct {
	base      string // base_dir
	hosts     []host
	backends  []backend
	logins    []string // login services that ask it
	lookups   []string // protocols whose look-ups without a password it answers
	userdb    listener
	notify    listener
	admin     listener
	separator string
	sepKey    string // the setting that separator comes from
	hashed    string // director_username_hash
	key       string // affinity.key
	expire    time.Duration
	kickDelay time.Duration
	parallel  int
	flush     string // director_flush_socket
	doveadm   []doveadm
}

// A doveadm is a listener of the proxy's doveadm server.
type doveadm struct {
	url    string
	secret string // api_key or password
}

// reader fills in a director and notes what needs an operator.
type reader struct {
	file  string
	root  *section
	d     director
	notes []config.Fault
}

func (r *reader) note(line int, key, format string, args ...any) {
	if len(r.notes) == maxNotes {
		r.notes = append(r.notes, config.Fault{File: r.file, Text: fmt.Sprintf("no more than %d notes are shown", maxNotes)})
	}
	if len(r.notes) > maxNotes {
		return
	}
	r.notes = append(r.notes, config.Fault{File: r.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) fault(line int, key, format string, args ...any) error {
	return config.Faults{{File: r.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...)}}
}

// show quotes a piece of the input for a message or a comment: ASCII, short.
func show(s string) string {
	const most = 60
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// keyName is a setting's name for a message; quoted, when it may be anything.
func keyName(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }) || len(s) > 60 {
		return show(s)
	}
	return s
}

// text is a global setting's value, or what Dovecot takes without it.
func (r *reader) text(key, def string) string {
	if s, ok := r.root.get(key); ok {
		return s.value
	}
	return def
}

// line is where a global setting stands, 0 if it does not.
func (r *reader) line(key string) int {
	s, _ := r.root.get(key)
	return s.line
}

// read is the whole, in the order of what builds on what.
func (r *reader) read() error {
	if s, ok := r.root.get("dovecot_config_version"); ok {
		return r.fault(s.line, s.key, "this is a Dovecot 2.4 configuration, which has no director; expected one of Dovecot 2.3")
	}
	if r.text("director_mail_servers", "") == "" {
		return r.fault(0, "", "no director: director_mail_servers is not set; expected the output of doveconf -n of a Dovecot 2.3 proxy with a director")
	}
	if err := r.base(); err != nil {
		return err
	}
	if err := r.mailServers(); err != nil {
		return err
	}
	r.ring()
	if err := r.affinity(); err != nil {
		return err
	}
	r.separator()
	r.listeners()
	r.askers()
	r.passdbs()
	r.doveadms()
	r.filters()
	slices.SortStableFunc(r.notes, func(a, b config.Fault) int { return cmp.Compare(a.Line, b.Line) })
	return nil
}

func (r *reader) base() error {
	r.d.base = strings.TrimRight(r.text("base_dir", "/run/dovecot"), "/")
	_, err := config.ParseAddress("unix:" + r.d.base + "/login/usher.d/notify")
	if err == nil && !utf8.ValidString(r.d.base) {
		err = errors.New("not UTF-8; expected a path that is")
	}
	if err != nil {
		return r.fault(r.line("base_dir"), "base_dir", "%v", err)
	}
	return nil
}

func (r *reader) mailServers() error {
	const key = "director_mail_servers"
	s, _ := r.root.get(key)
	hosts, twice, retagged, err := parseHosts(s.value)
	switch {
	case err != nil:
		return r.fault(s.line, key, "%v", err)
	case len(hosts) == 0:
		return r.fault(s.line, key, "no host; expected at least one")
	}
	r.d.hosts = hosts
	if len(twice) > 0 {
		r.note(s.line, key, "%s: given twice, the first counts", some(twice))
	}
	if len(retagged) > 0 {
		r.note(s.line, key, "%s: given with two tags; a host has one set of them, and the first counts", some(retagged))
	}
	r.note(s.line, key, "users are placed anew: usher's hash is another one, and the director's assignments are not in a configuration")
	r.note(s.line, key, "weights that were set at run time are not in it: compare vhosts in `doveadm director status`, and set weight where it is not 100")
	r.note(s.line, key, "usher checks every backend, and gives nobody to a host whose imap or pop3 does not answer: the ports must be open from here")
	var names []string
	for _, h := range hosts {
		if _, ok := address(h.name); !ok {
			names = append(names, h.name)
		}
	}
	if len(names) > 0 {
		r.note(s.line, key, "%s: the director took each address of a name for a host of its own, usher takes a name for one host: where it has several addresses, list them", some(names))
	}
	return nil
}

// some joins a few of the names.
func some(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// ring notes what only a ring has.
func (r *reader) ring() {
	if s, ok := r.root.get("director_servers"); ok && s.value != "" {
		r.note(s.line, s.key, "there is no ring (%d directors here): each usher knows its own assignments only, see docs/migrate-from-director.md", len(strings.Fields(s.value)))
	}
	for _, x := range []struct{ key, def string }{
		{"director_ping_idle_timeout", "30 secs"},
		{"director_ping_max_timeout", "1 mins"},
		{"director_output_buffer_size", "10 M"},
	} {
		if s, ok := r.root.get(x.key); ok && s.value != x.def {
			r.note(s.line, x.key, "no match: there is no ring")
		}
	}
	if s, ok := r.root.get("director_consistent_hashing"); ok {
		r.note(s.line, s.key, "no match: a host that comes or goes moves its own users only, always")
	}
	known := []string{
		"director_servers", "director_mail_servers", "director_username_hash", "director_user_expire", "director_user_kick_delay",
		"director_max_parallel_moves", "director_max_parallel_kicks", "director_flush_socket", "director_consistent_hashing",
		"director_ping_idle_timeout", "director_ping_max_timeout", "director_output_buffer_size",
	}
	for _, s := range r.root.settings {
		if strings.HasPrefix(s.key, "director_") && !slices.Contains(known, s.key) {
			r.note(s.line, keyName(s.key), "is no setting of Dovecot 2.3's director; left out")
		}
	}
}

// filters notes what stands in `local`, `remote` and `local_name`, which usher
// has not.
func (r *reader) filters() {
	var visit func(s *section, inside bool)
	visit = func(s *section, inside bool) {
		for _, c := range s.sections {
			in := inside || c.kind == "local" || c.kind == "remote" || c.kind == "local_name"
			if in && c.kind == "passdb" {
				r.note(c.line, "passdb", "inside local, remote or local_name: not read")
			}
			for _, x := range c.settings {
				if in && (strings.HasPrefix(x.key, "director_") || strings.HasPrefix(x.key, "doveadm_") || x.key == "auth_socket_path" || x.key == "lmtp_proxy") {
					r.note(x.line, keyName(x.key), "inside local, remote or local_name: not read")
				}
			}
			visit(c, in)
		}
	}
	visit(r.root, false)
}
