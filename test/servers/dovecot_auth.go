package servers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A DovecotAuth is a Dovecot 2.3 whose auth process alone is asked.
type DovecotAuth struct {
	*Process
	Client string // its socket for who only authenticates (auth-client)
	Login  string // for login processes
	Userdb string // for userdb look-ups

	conf string
}

// StartDovecotAuth runs one with the lines of a passwd-file as users. settings
// follow the usual ones.
func StartDovecotAuth(t testing.TB, passwd, settings string) *DovecotAuth {
	t.Helper()
	dir := Dir(t)
	makeSocketFolders(t, dir)
	base := filepath.Join(dir, "run")
	d := &DovecotAuth{Client: filepath.Join(base, "auth-client"), Login: filepath.Join(base, "login/login"), Userdb: filepath.Join(base, "auth-userdb")}
	d.conf = WriteFile(t, fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols =
ssl = no
disable_plaintext_auth = no
auth_username_chars =
auth_mechanisms = plain login external
passdb {
  driver = passwd-file
  args = %[2]s
}
userdb {
  driver = passwd-file
  args = %[2]s
  default_fields = uid=nobody gid=nogroup home=/nonexistent
}
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
# No penalty for wrong passwords: whole tests come from one machine.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
%[3]s`, dir, WriteFile(t, passwd, dir, "passwd"), settings), dir, "dovecot.conf")
	d.Start(t)
	return d
}

// Start runs it again after it was stopped or killed.
func (d *DovecotAuth) Start(t testing.TB) {
	t.Helper()
	d.Process = Start(t, "dovecot-auth", "dovecot", "-F", "-c", d.conf)
	d.Logged(t, 0, "that it starts", func(line string) bool { return strings.Contains(line, "starting up") })
}
