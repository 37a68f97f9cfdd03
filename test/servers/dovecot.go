package servers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
)

// Users are names and passwords that a server accepts.
type Users map[string]string

// Passwd writes them as a file in Dovecot's passwd-file layout, which usher
// reads too, and returns its path. Passwords are salted SHA-256 ({SSHA256}), so
// that they may have any bytes.
func (u Users) Passwd(t testing.TB, elem ...string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range u.names() {
		salt := make([]byte, 8)
		if _, err := rand.Read(salt); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append([]byte(u[name]), salt...))
		fmt.Fprintf(&b, "%s:{SSHA256}%s::::::\n", name,
			base64.StdEncoding.EncodeToString(append(sum[:], salt...)))
	}
	return WriteFile(t, b.String(), elem...)
}

func (u Users) names() []string {
	var names []string
	for name := range u {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// DoveadmPassword is what the doveadm servers of all instances ask for, DoveadmKey
// what their HTTP API does.
const (
	DoveadmPassword = "doveadm of the tests"
	DoveadmKey      = "key of the tests"
)

// LoginProtocols are those of a Dovecot that users log in by.
var LoginProtocols = []string{"imap", "pop3", "submission", "sieve"}

// A Dovecot is a running instance with a base_dir of its own.
type Dovecot struct {
	*Process
	Base string            // base_dir
	Addr map[string]string // ip:port of each of LoginProtocols, of lmtp, doveadm and doveadm_http

	name string
	conf string // path of its configuration
	mail string // of a backend: the folder of homes
}

// A dialect is how one Dovecot version writes its configuration: the templates
// "backend", "services", "proxy" and "auth", each a whole dovecot.conf, and "site", what a proxy has
// instead of deploy's site.conf. They get a dovecotConf.
type dialect struct {
	name     string // as in the names of tests: Dovecot23
	deploy   string // folder below deploy/
	versions string // the settings that must come first
	*template.Template
}

// dovecotConf is what the configurations of the tests' instances differ in.
type dovecotConf struct {
	Dir, Name, IP string
	Port          map[string]int // by protocol; missing: a free one
	TLS           *Certificate   // or nil
	Passwd        string         // path
	Relay         string         // port of the server behind submission
	Listeners     listeners      // of "services", by protocol; "auth" too
	Settings      string         // more of them, in the dialect
}

// DovecotVersion is the installed one, as in the names of tests: Dovecot23 or
// Dovecot24.
func DovecotVersion(t testing.TB) string { return installedDialect(t).name }

func installedDialect(t testing.TB) *dialect {
	t.Helper()
	version, err := dovecotVersion()
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasPrefix(version, "2.3."):
		return dovecot23
	case strings.HasPrefix(version, "2.4."):
		return dovecot24
	default:
		t.Fatalf("no configuration for Dovecot %s", version)
		return nil
	}
}

var dovecotVersion = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("dovecot", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("dovecot --version: %w", err)
	}
	return string(out), nil
})

// write writes the template into the instance's folder.
func (d *dialect) write(t testing.TB, template string, c *dovecotConf, file string) string {
	t.Helper()
	var b strings.Builder
	if err := d.ExecuteTemplate(&b, template, c); err != nil {
		t.Fatal(err)
	}
	return WriteFile(t, b.String(), c.Dir, file)
}

// start fills in the addresses and runs an instance with the template as its
// configuration. Logs go to stderr.
func (d *dialect) start(t testing.TB, template string, c *dovecotConf) *Dovecot {
	t.Helper()
	i := &Dovecot{Base: filepath.Join(c.Dir, "run"), Addr: map[string]string{}}
	if c.Port == nil {
		c.Port = map[string]int{}
	}
	for _, protocol := range append([]string{"lmtp", "doveadm", "doveadm_http"}, LoginProtocols...) {
		if c.Port[protocol] == 0 {
			c.Port[protocol] = Port(t, c.IP)
		}
		i.Addr[protocol] = net.JoinHostPort(c.IP, strconv.Itoa(c.Port[protocol]))
	}
	if template == "proxy" {
		d.copyDeployed(t, c)
	}
	i.name, i.conf = c.Name, d.write(t, template, c, "dovecot.conf")
	i.Start(t)
	return i
}

// Start runs it again after it was stopped or killed.
func (d *Dovecot) Start(t testing.TB) {
	t.Helper()
	d.Process = Start(t, d.name, "dovecot", "-F", "-c", d.conf)
	d.Logged(t, 0, "that it starts", func(line string) bool {
		return strings.Contains(line, "starting up")
	})
}

// StartDovecotBackend runs a mail server on ip, all protocols, free ports. Every
// user's INBOX has one message that names ip, see Client.Backend; the relay
// behind submission and managesieve's IMPLEMENTATION name it too. With tls it
// offers STARTTLS.
func StartDovecotBackend(t testing.TB, ip string, users Users, tls *Certificate) *Dovecot {
	t.Helper()
	return startBackend(t, ip, users, nil, tls, Port(t, ip))
}

// StartDovecotBackends runs one on each ip. Their doveadm servers have the same
// port, since a proxy knows one only: its doveadm_port. They also have the users
// in more, without a message: there may be many.
func StartDovecotBackends(t testing.TB, ips []string, users, more Users) (backends []*Dovecot, doveadmPort int) {
	t.Helper()
	doveadmPort = Port(t, ips...)
	for _, ip := range ips {
		backends = append(backends, startBackend(t, ip, users, more, nil, doveadmPort))
	}
	return backends, doveadmPort
}

func startBackend(t testing.TB, ip string, users, more Users, tls *Certificate, doveadmPort int) *Dovecot {
	t.Helper()
	dir := Dir(t)
	mail := mkdir(t, 0o755, dir, "mail")
	for _, name := range users.names() {
		makeMaildir(t, filepath.Join(mail, name, "Maildir"), ip)
	}
	chown(t, "nobody", mail)
	_, relay := splitAddr(t, StartSMTPSink(t, ip).Addr)
	all := maps.Clone(users)
	maps.Copy(all, more)
	d := installedDialect(t).start(t, "backend", &dovecotConf{
		Dir: dir, Name: "backend-" + ip, IP: ip, TLS: tls, Passwd: all.Passwd(t, dir, "passwd"), Relay: relay,
		Port: map[string]int{"doveadm": doveadmPort},
	})
	d.mail = mail
	return d
}

// Delivered returns the subjects of what a user of this backend has got over
// lmtp, sorted.
func (d *Dovecot) Delivered(t testing.TB, user string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.mail, user, "Maildir", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if subject, ok := strings.CutPrefix(line, "Subject: "); ok && !markLine.MatchString(line) {
				subjects = append(subjects, strings.TrimSpace(subject))
			}
		}
	}
	slices.Sort(subjects)
	return subjects
}

// HasMailbox reports whether a user has that mailbox at this backend.
func (d *Dovecot) HasMailbox(t testing.TB, user, mailbox string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(d.mail, user, "Maildir", "."+mailbox))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// Doveadm runs doveadm with this instance's configuration and returns what it
// prints and its exit status.
func (d *Dovecot) Doveadm(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return run(t, "doveadm", append([]string{"-c", d.conf}, args...)...)
}

// Conf is the path of its configuration, for who runs doveadm himself.
func (d *Dovecot) Conf() string { return d.conf }

// Who returns who has sessions here, a word for each session, sorted. Of a proxy of
// Dovecot 2.3 it shows nobody: `doveadm who` leaves out what is proxied.
func (d *Dovecot) Who(t testing.TB) (users []string) {
	t.Helper()
	stdout, stderr, status := d.Doveadm(t, "-f", "flow", "who", "-1")
	if status != 0 {
		t.Fatalf("doveadm who: exit status %d: %s", status, stderr)
	}
	for _, m := range whoLine.FindAllStringSubmatch(stdout, -1) {
		users = append(users, m[1])
	}
	slices.Sort(users)
	return users
}

var whoLine = regexp.MustCompile(`(?m)^username=(\S+)`)

// StartDoveadm is Doveadm for a command that takes long: its log has what the
// command prints.
func (d *Dovecot) StartDoveadm(t testing.TB, args ...string) *Process {
	t.Helper()
	return Start(t, "doveadm", append([]string{"doveadm", "-c", d.conf}, args...)...)
}

// makeMaildir makes a Maildir with one message, which names ip.
func makeMaildir(t testing.TB, path, ip string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		mkdir(t, 0o755, path, sub)
	}
	WriteFile(t, fmt.Sprintf("From: test <test@example.org>\nSubject: %s\n\n", mark(ip)), path, "new", "1.mark")
}

// chown gives a folder and all below it to a user.
func chown(t testing.TB, name, path string) {
	t.Helper()
	uid, gid := lookUp(t, name)
	err := filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lookUp(t testing.TB, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		t.Fatal(err)
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		t.Fatal(err)
	}
	return uid, gid
}
