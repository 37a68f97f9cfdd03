package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A DovecotProxy is a Dovecot whose login processes, lmtp and doveadm ask
// usher.
type DovecotProxy struct {
	*Dovecot
	// Sock, Userdb and Notify are where usher must listen: kind auth, userdb
	// and notify (a FIFO).
	Sock, Userdb, Notify string
	// Upstream and UpstreamUserdb are the sockets of its own auth process.
	Upstream, UpstreamUserdb string
}

// StartDovecotProxy runs Dovecot with usher.conf of deploy, included as it
// stands, on ip. With users its auth process knows them, and answers OK with
// `proxy` and without a host, so that usher can stand between: interposed.
// Without, it knows nobody, and usher must be the auth server. More settings, in
// the dialect of the installed version, end its site.conf.
//
// Login processes connect to Sock when the first mail client comes.
func StartDovecotProxy(t testing.TB, ip string, users Users, settings ...string) *DovecotProxy {
	t.Helper()
	dir := Dir(t)
	makeSocketFolders(t, dir)
	name := "dovecot-interposed"
	if users == nil {
		name = "dovecot-standalone"
	}
	d := installedDialect(t).start(t, "proxy", &dovecotConf{
		Dir: dir, Name: name, IP: ip, Passwd: users.Passwd(t, dir, "passwd"), Settings: strings.Join(settings, "\n"),
	})
	return &DovecotProxy{
		Dovecot:        d,
		Sock:           filepath.Join(d.Base, "login/usher.d/sock"),
		Userdb:         filepath.Join(d.Base, "usher.d/userdb"),
		Notify:         filepath.Join(d.Base, "login/usher.d/notify"),
		Upstream:       filepath.Join(d.Base, "login/login"),
		UpstreamUserdb: filepath.Join(d.Base, "usher-userdb"),
	}
}

// copyDeployed puts usher.conf beside the instance's configuration, with a
// site.conf of the tests.
func (d *dialect) copyDeployed(t testing.TB, c *dovecotConf) {
	t.Helper()
	text, err := os.ReadFile(Deploy(t, d.deploy+"/usher.conf"))
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, string(text), c.Dir, "usher.conf")
	d.write(t, "site", c, "site.conf")
}

// makeSocketFolders does what deploy/usher.tmpfiles.conf does at boot, for an
// usher that is root.
func makeSocketFolders(t testing.TB, dir string) {
	t.Helper()
	_, dovenull := lookUp(t, "dovenull")
	mkdir(t, 0o755, dir, "run")
	mkdir(t, 0o750, dir, "run/usher.d")
	for _, elem := range []string{"run/login", "run/login/usher.d"} {
		if err := os.Chown(mkdir(t, 0o750, dir, elem), 0, dovenull); err != nil {
			t.Fatal(err)
		}
	}
}

// DeployedDovecot returns what doveconf says of deploy's folder for the
// installed version, with its own site.conf.
func DeployedDovecot(t testing.TB) string {
	t.Helper()
	d := installedDialect(t)
	conf := WriteFile(t, fmt.Sprintf("%s\nssl = no\nprotocols = imap pop3 submission sieve lmtp\n!include %s\n",
		d.versions, Deploy(t, d.deploy+"/usher.conf")), Dir(t), "dovecot.conf")
	stdout, stderr, status := run(t, "doveconf", "-n", "-c", conf)
	if status != 0 || stderr != "" {
		t.Fatalf("doveconf: status %d: %s", status, stderr)
	}
	return stdout
}
