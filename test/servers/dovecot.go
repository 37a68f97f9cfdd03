package servers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
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

// A Dovecot is a running instance with a base_dir of its own.
type Dovecot struct {
	*Process
	Base string            // base_dir
	Addr map[string]string // protocol: ip:port, for imap and pop3
}

// startDovecot runs an instance with settings after the ones that every
// instance of a test has. Logs go to stderr.
func startDovecot(t testing.TB, name, dir, ip string, tls *Certificate, settings string) *Dovecot {
	t.Helper()
	d := &Dovecot{
		Base: filepath.Join(dir, "run"),
		Addr: map[string]string{"imap": Addr(t, ip), "pop3": Addr(t, ip)},
	}
	ssl := "ssl = no\n"
	if tls != nil {
		ssl = fmt.Sprintf("ssl = yes\nssl_cert = <%s\nssl_key = <%s\n", tls.CertFile, tls.KeyFile)
	}
	_, imap := splitAddr(t, d.Addr["imap"])
	_, pop3 := splitAddr(t, d.Addr["pop3"])
	conf := WriteFile(t, fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
instance_name = %[2]s
log_path = /dev/stderr
listen = %[3]s
protocols = imap pop3
disable_plaintext_auth = no
auth_failure_delay = 0
auth_username_chars =
mail_max_userip_connections = 0
%[4]s
# No penalty for wrong passwords: whole tests come from one machine.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
# imap: one process for all logins; pop3: one a login, Dovecot's default.
service imap-login {
  service_count = 0
  inet_listener imap {
    port = %[5]s
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %[6]s
  }
  inet_listener pop3s {
    port = 0
  }
}
%[7]s`, dir, name, ip, ssl, imap, pop3, settings), dir, "dovecot.conf")

	d.Process = Start(t, name, "dovecot", "-F", "-c", conf)
	d.Logged(t, 0, "that it starts", func(line string) bool {
		return strings.Contains(line, "starting up")
	})
	return d
}

// StartDovecotBackend runs a mail server on ip (imap and pop3, free ports).
// Every user's INBOX has one message that names ip, see Client.Backend. With
// tls it offers STARTTLS.
func StartDovecotBackend(t testing.TB, ip string, users Users, tls *Certificate) *Dovecot {
	t.Helper()
	dir := Dir(t)
	mail := mkdir(t, 0o755, dir, "mail")
	for _, name := range users.names() {
		makeMaildir(t, filepath.Join(mail, name, "Maildir"), ip)
	}
	chown(t, "nobody", mail)
	return startDovecot(t, "backend-"+ip, dir, ip, tls, fmt.Sprintf(`login_greeting = backend %[1]s
login_trusted_networks = 127.0.0.0/8
mail_location = maildir:~/Maildir
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = %[2]s
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[3]s/%%u
}
`, ip, users.Passwd(t, dir, "passwd"), mail))
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
