package importdirector

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
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

// affinity reads how users are kept and moved.
func (r *reader) affinity() error {
	limits := []struct {
		key, def  string
		dst       *time.Duration
		low, high time.Duration
	}{
		{"director_user_expire", "15 mins", &r.d.expire, 2 * time.Second, 720 * time.Hour},
		{"director_user_kick_delay", "2 secs", &r.d.kickDelay, 0, time.Minute},
	}
	for _, l := range limits {
		d, err := duration(r.text(l.key, l.def))
		if err != nil {
			return r.fault(r.line(l.key), l.key, "%v", err)
		}
		*l.dst = min(max(d, l.low), l.high)
		if *l.dst != d {
			r.note(r.line(l.key), l.key, "out of usher's range; %s instead", short(*l.dst))
		}
	}
	counts := map[string]int{}
	for _, key := range []string{"director_max_parallel_moves", "director_max_parallel_kicks"} {
		n, err := strconv.ParseUint(r.text(key, "100"), 10, 32)
		if err != nil {
			return r.fault(r.line(key), key, "bad number; expected one such as 100")
		}
		counts[key] = int(n)
	}
	moves, kicks := counts["director_max_parallel_moves"], counts["director_max_parallel_kicks"]
	r.d.parallel = min(max(moves, 1), 100000)
	if r.d.parallel != moves {
		r.note(r.line("director_max_parallel_moves"), "director_max_parallel_moves", "out of usher's range; %d instead", r.d.parallel)
	}
	if kicks != moves {
		r.note(r.line("director_max_parallel_kicks"), "director_max_parallel_kicks", "usher has one limit, affinity.parallel_moves; that of director_max_parallel_moves is taken")
	}
	if s, ok := r.root.get("director_flush_socket"); ok && s.value != "" {
		r.d.flush = s.value
		r.note(s.line, s.key, "affinity.flush_hook stands for it, but runs a program instead of asking a socket: write it anew")
	}
	r.hash()
	return nil
}

// hash maps director_username_hash to affinity.key.
func (r *reader) hash() {
	const key = "director_username_hash"
	r.d.hashed = r.text(key, "%Lu")
	format := strings.NewReplacer("{user}", "u", "{username}", "n", "{domain}", "d").Replace(r.d.hashed)
	if strings.Contains(format, "%") && !strings.Contains(format, "%L") {
		r.note(r.line(key), key, "usher compares names in lower case, always: users whose names differ in case alone become one")
	}
	switch strings.ReplaceAll(format, "%L", "%") {
	case "%u", "%n@%d":
		r.d.key = "user"
	case "%n":
		r.d.key = "local"
	case "%d":
		r.d.key = "domain"
	default:
		r.d.key = "user"
		r.note(r.line(key), key, "%s has no match: affinity.key can be user, local or domain; user is taken, and users whom the director kept together may be parted", show(r.d.hashed))
	}
}

// separator: the director itself cut names at master_user_separator; auth cuts
// at auth_master_user_separator before that.
func (r *reader) separator() {
	for _, key := range []string{"master_user_separator", "auth_master_user_separator"} {
		s, ok := r.root.get(key)
		if !ok || s.value == "" {
			continue
		}
		if r.d.separator != "" {
			if s.value[:1] != r.d.separator {
				r.note(s.line, key, "differs from master_user_separator, which is the director's own and counts")
			}
			continue
		}
		c := s.value[0]
		if c <= ' ' || c >= 0x7f {
			r.note(s.line, key, "no match: dovecot.master_user_separator is one printable ASCII byte")
			continue
		}
		if len(s.value) > 1 {
			r.note(s.line, key, "only the first byte counts, as in Dovecot")
		}
		r.d.separator, r.d.sepKey = s.value[:1], key
	}
}

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

// duration reads Dovecot's times (2.3 src/lib-settings/settings-parser.c,
// settings_get_time): a whole number and a unit or its beginning.
func duration(s string) (time.Duration, error) {
	bad := fmt.Errorf("bad time; expected one such as 15 min")
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseUint(s[:end], 10, 32)
	if err != nil {
		return 0, bad
	}
	unit := strings.ToLower(strings.TrimLeft(s[end:], " "))
	if unit == "" {
		if n != 0 {
			return 0, bad
		}
		return 0, nil
	}
	for _, u := range []struct {
		unit  time.Duration
		names string
	}{
		{time.Second, "secs seconds"},
		{time.Minute, "mins minutes"},
		{time.Millisecond, "msecs mseconds millisecs milliseconds"},
		{time.Hour, "hours"},
		{24 * time.Hour, "days"},
		{7 * 24 * time.Hour, "weeks"},
	} {
		for name := range strings.FieldsSeq(u.names) {
			if !strings.HasPrefix(name, unit) {
				continue
			}
			if n > uint64(math.MaxInt64/int64(u.unit)) || u.unit == time.Millisecond && n%1000 != 0 {
				return 0, bad
			}
			return time.Duration(n) * u.unit, nil
		}
	}
	return 0, bad
}

// short is a duration without zero parts: 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
