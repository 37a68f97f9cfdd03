package importdirector

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"usher/config"
)

// A Result is what Import makes.
type Result struct {
	YAML []byte // a complete usher.yaml
	// Notes say what has no match, or what an operator must look at: file, line,
	// setting and text, in the order of the file. They repeat no secret.
	Notes []config.Fault
}

// Import maps the configuration of a Dovecot 2.3 director to usher's. data is
// what `doveconf -n` or `doveconf -a` prints, or a dovecot.conf without includes,
// of at most MaxInput bytes; name is what messages call it. The error is
// config.Faults: what cannot be read, or is no director.
func Import(name string, data []byte) (*Result, error) {
	f, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	r := &reader{file: name, root: f.root}
	if v := header.FindStringSubmatch(f.comment); v != nil && !strings.HasPrefix(v[1], "2.3.") {
		if strings.HasPrefix(v[1], "2.4.") {
			return nil, r.fault(1, "", "this is a configuration of Dovecot %s, which has no director; expected one of Dovecot 2.3", v[1])
		}
		r.note(1, "", "this is a configuration of Dovecot %s; what is known here is 2.3's", v[1])
	}
	if err := r.read(); err != nil {
		return nil, err
	}
	w := &writer{director: &r.d}
	w.file()
	if w.Len() > MaxInput {
		return nil, r.fault(r.line("director_mail_servers"), "director_mail_servers", "too many hosts for one usher.yaml of %d MiB; expected fewer", MaxInput>>20)
	}
	return &Result{YAML: w.Bytes(), Notes: r.notes}, nil
}

// header is the first line of doveconf's output: `# 2.3.19.1 (9b53102964): PATH`.
var header = regexp.MustCompile(`^# (\d{1,3}\.\d{1,3}\.[0-9.]{1,20})\b`)

// writer prints a director as usher.yaml.
type writer struct {
	*director
	bytes.Buffer
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.Buffer, format+"\n", args...)
}

// file prints the sections in the order of deploy/usher.yaml.
func (w *writer) file() {
	w.line(`# /etc/usher/usher.yaml, made by usher import-director of a Dovecot 2.3 director.
# What it said on standard error belongs to it. docs/migrate-from-director.md has
# the steps, docs/configuration.md all keys; usher check looks for faults.
`)
	w.line("dovecot:\n  listeners:")
	asked := "the login services: executable = imap-login usher.d/sock"
	if len(w.logins) > 0 {
		asked = strings.Join(w.logins, ", ") + ": usher.d/sock instead of director in executable"
	}
	w.line("    # %s", asked)
	w.listener("auth", "login/usher.d/sock", listener{}, "login/login")
	if len(w.lookups) > 0 {
		w.line("    # protocol %s: auth_socket_path = usher.d/userdb instead of director-userdb", strings.Join(w.lookups, ", protocol "))
		w.listener("userdb", "usher.d/userdb", w.userdb, "auth-userdb")
	}
	if w.notify.path != "" {
		w.line("    # login_proxy_notify_path = usher.d/notify, instead of the director's FIFO")
		w.listener("notify", "login/usher.d/notify", listener{}, "")
	}
	if w.admin.path != "" {
		w.line("    # doveadm director -a PATH, instead of director-admin")
		w.listener("director-admin", "usher.d/director-admin", w.admin, "")
	}
	if w.separator != "" {
		w.line("  master_user_separator: %s # %s", quoted(w.separator), w.sepKey)
	}
	if len(w.doveadm) > 0 {
		w.line("  # Where the sessions of this proxy are listed and kicked. Put the secret into\n  # the file, then take the # away.\n  # doveadm:")
	}
	for _, d := range w.doveadm {
		w.line("  #   - {url: %s, %s: \"file:/etc/usher/doveadm.%s\", role: proxy}", quoted(d.url), d.secret, d.secret)
	}
	w.line(`
director:
  script: "" # empty: sticky users, spread by a hash, as the director did
  unlisted_backends: deny # users are taken to the hosts below only
`)
	w.line("affinity:")
	w.line("  key: %s # director_username_hash = %s", w.key, show(w.hashed))
	w.line("  expire: %s # director_user_expire", short(w.expire))
	w.line("  kick_delay: %s # director_user_kick_delay", short(w.kickDelay))
	w.line("  parallel_moves: %d # director_max_parallel_moves", w.parallel)
	if w.flush != "" {
		w.line("  # A program, in place of director_flush_socket = %s:\n  # flush_hook: /usr/local/bin/flush-hook", show(w.flush))
	}
	w.servers()
}

// listener prints one. The mode is the kind's own where the director's socket belonged to root alone.
func (w *writer) listener(kind, at string, of listener, upstream string) {
	const indent = "    "
	w.line("%s- address: %s", indent, quoted("unix:"+w.base+"/"+at))
	w.line("%s  kind: %s", indent, kind)
	if of.owner != "" || of.group != "" {
		var mode config.Mode
		if mode.UnmarshalText([]byte(of.mode)) == nil && mode != 0 {
			w.line("%s  mode: %q", indent, mode)
		}
		if of.owner != "" && of.owner != "root" {
			w.line("%s  owner: %s", indent, quoted(of.owner))
		}
		if of.group != "" {
			w.line("%s  group: %s", indent, quoted(of.group))
		}
	}
	if upstream != "" {
		w.line("%s  upstream: %s", indent, quoted("unix:"+w.base+"/"+upstream))
	}
}

// servers prints the inventory: each host with an entry per protocol.
func (w *writer) servers() {
	w.line("\nbackend_server_monitoring:")
	for _, b := range w.backends {
		w.line("  # %s: port %d, %s", b.inventory, b.port, b.from)
	}
	if slices.ContainsFunc(w.backends, func(b backend) bool { return b.section == "submission" }) {
		w.line("  # smtp stands for submission.")
	}
	w.line("  backend_servers: # director_mail_servers")
	word := ""
	for _, h := range w.hosts {
		if h.word != word {
			if h.word != "" {
				w.line("    # %s", show(h.word))
			}
			word = h.word
		}
		for _, b := range w.backends {
			w.line("    - {%s}", strings.Join(entry(h, b), ", "))
		}
	}
}

func entry(h host, b backend) []string {
	out := []string{"protocol: " + b.inventory, "host: " + quoted(h.name), "port: " + strconv.Itoa(b.port)}
	if b.tls {
		out = append(out, "tls: true")
	}
	if b.startTLS {
		out = append(out, "starttls: true")
	}
	if b.anyCert {
		out = append(out, "tls_skip_verify: true")
	}
	if h.tag != "" {
		out = append(out, "tags: ["+quoted(h.tag)+"]")
	}
	return out
}

var plain = regexp.MustCompile(`^(unix:)?/?[A-Za-z][A-Za-z0-9/._-]*$|^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$`)

// quoted is a text as a YAML value in which usher expands nothing. Quotes are
// left out where nothing can be meant but the text.
func quoted(s string) string {
	words := []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
	if plain.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return strconv.QuoteToASCII(strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "${", "$${"))
}
