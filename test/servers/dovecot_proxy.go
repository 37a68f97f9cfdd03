package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A DovecotProxy is a Dovecot whose login processes ask usher.
type DovecotProxy struct {
	*Dovecot
	// Sock is where usher must listen for the login processes.
	Sock string
	// Notify is the FIFO that its login processes write to.
	Notify string
	// Upstream is the login socket of its own auth process.
	Upstream string
}

// StartDovecotProxy runs Dovecot 2.3 with deploy/dovecot-2.3/usher.conf,
// included as it stands, on ip. With users its auth process knows them, and
// answers OK with `proxy` and without a host, so that usher can stand between:
// interposed. Without, it knows nobody, and usher must be the auth server.
//
// Login processes connect to Sock when the first mail client comes.
func StartDovecotProxy(t testing.TB, ip string, users Users) *DovecotProxy {
	t.Helper()
	dir := Dir(t)
	makeSocketFolders(t, dir)
	name := "dovecot-interposed"
	if users == nil {
		name = "dovecot-standalone"
	}
	d := startDovecot(t, name, dir, ip, nil, fmt.Sprintf(`!include %s
passdb {
  driver = passwd-file
  args = %s
  default_fields = proxy=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
`, Deploy(t, "dovecot-2.3/usher.conf"), users.Passwd(t, dir, "passwd")))
	return &DovecotProxy{
		Dovecot:  d,
		Sock:     filepath.Join(d.Base, "login/usher.d/sock"),
		Notify:   filepath.Join(d.Base, "login/proxy-notify"),
		Upstream: filepath.Join(d.Base, "login/login"),
	}
}

// makeSocketFolders does what deploy/usher.tmpfiles.conf does at boot.
func makeSocketFolders(t testing.TB, dir string) {
	t.Helper()
	_, dovenull := lookUp(t, "dovenull")
	mkdir(t, 0o755, dir, "run")
	for _, elem := range []string{"run/login", "run/login/usher.d"} {
		if err := os.Chown(mkdir(t, 0o750, dir, elem), 0, dovenull); err != nil {
			t.Fatal(err)
		}
	}
}
