package servers

import (
	"path/filepath"
	"strings"
	"testing"
)

// A DovecotAuth is a Dovecot whose auth process alone is asked.
type DovecotAuth struct {
	*Process
	Client string // its socket for who only authenticates (auth-client)
	Login  string // for login processes
	Userdb string // for userdb look-ups

	conf string
}

// StartDovecotAuth runs one with the lines of a passwd-file as users. Settings
// that both versions know follow the usual ones.
func StartDovecotAuth(t testing.TB, passwd, settings string) *DovecotAuth {
	t.Helper()
	dir := Dir(t)
	makeSocketFolders(t, dir)
	base := filepath.Join(dir, "run")
	d := &DovecotAuth{Client: filepath.Join(base, "auth-client"), Login: filepath.Join(base, "login/login"), Userdb: filepath.Join(base, "auth-userdb")}
	d.conf = installedDialect(t).write(t, "auth", &dovecotConf{
		Dir: dir, Name: "dovecot-auth", Passwd: WriteFile(t, passwd, dir, "passwd"), Settings: settings,
	}, "dovecot.conf")
	d.Start(t)
	return d
}

// Start runs it again after it was stopped or killed.
func (d *DovecotAuth) Start(t testing.TB) {
	t.Helper()
	d.Process = Start(t, "dovecot-auth", "dovecot", "-F", "-c", d.conf)
	d.Logged(t, 0, "that it starts", func(line string) bool { return strings.Contains(line, "starting up") })
}
