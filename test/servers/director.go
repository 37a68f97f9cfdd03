package servers

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Director is Dovecot 2.3 with its director before its own auth process: what
// usher stands in for.
type Director struct {
	*Dovecot
	Login    string // the director's socket for login processes
	Userdb   string // and for lmtp and doveadm
	Auth     string // the auth process's own socket for login processes
	AuthUser string // and for userdb look-ups
	Admin    string // the director's socket for `doveadm director`
}

// StartDirector runs one with the lines of a passwd-file as users, and hosts as
// director_mail_servers has them. settings follow the usual ones.
func StartDirector(t testing.TB, passwd, hosts, settings string) *Director {
	t.Helper()
	NeedDovecot23(t)
	dir := Dir(t)
	makeSocketFolders(t, dir)
	conf := WriteFile(t, fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
listen = 127.0.0.1
protocols =
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
auth_username_chars =
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 anonymous external
auth_anonymous_username = guest
director_servers = 127.0.0.1:%[2]d
director_mail_servers = %[3]s
passdb {
  driver = passwd-file
  args = %[4]s
}
userdb {
  driver = passwd-file
  args = %[4]s
  default_fields = uid=nobody gid=nogroup home=/nonexistent
}
service director {
  unix_listener login/director {
    mode = 0666
  }
  unix_listener director-userdb {
    mode = 0600
  }
  fifo_listener login/proxy-notify {
    mode = 0666
  }
  inet_listener {
    port = %[2]d
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  client_limit = 20000
}
%[5]s`, dir, Port(t, "127.0.0.1"), hosts, WriteFile(t, passwd, dir, "passwd"), settings), dir, "dovecot.conf")
	d := &Director{Dovecot: &Dovecot{Base: filepath.Join(dir, "run"), conf: conf}}
	d.Process = Start(t, "director", "dovecot", "-F", "-c", conf)
	d.Logged(t, 0, "that it starts", func(line string) bool { return strings.Contains(line, "starting up") })
	d.Login, d.Auth = filepath.Join(d.Base, "login/director"), filepath.Join(d.Base, "login/login")
	d.Userdb, d.AuthUser = filepath.Join(d.Base, "director-userdb"), filepath.Join(d.Base, "auth-userdb")
	d.Admin = filepath.Join(d.Base, "director-admin")
	return d
}

// An AuthClient speaks the auth protocol, or auth-master, by hand, as login
// processes and lmtp do.
type AuthClient struct {
	t  testing.TB
	c  net.Conn
	br *bufio.Reader

	Greeting []string
}

// DialAuth connects to a socket of login processes and shakes hands.
func DialAuth(t testing.TB, path string, cpid int) *AuthClient {
	t.Helper()
	a := dialSocket(t, path)
	a.Say("VERSION\t1\t2", fmt.Sprintf("CPID\t%d", cpid))
	for line := ""; line != "DONE"; {
		line = a.Hear()
		a.Greeting = append(a.Greeting, line)
	}
	return a
}

// DialUserdb connects to a socket of userdb look-ups and shakes hands.
func DialUserdb(t testing.TB, path string) *AuthClient {
	t.Helper()
	a := dialSocket(t, path)
	a.Say("VERSION\t1\t0")
	for line := ""; !strings.HasPrefix(line, "SPID\t"); {
		line = a.Hear()
		a.Greeting = append(a.Greeting, line)
	}
	return a
}

func dialSocket(t testing.TB, path string) *AuthClient {
	t.Helper()
	c, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &AuthClient{t: t, c: c, br: bufio.NewReaderSize(c, 1<<16)}
}

// Say sends lines.
func (a *AuthClient) Say(lines ...string) {
	a.t.Helper()
	if err := a.TrySay(lines...); err != nil {
		a.t.Fatal(err)
	}
}

// TrySay is Say for one who may be hung up on.
func (a *AuthClient) TrySay(lines ...string) error {
	_, err := a.c.Write([]byte(strings.Join(lines, "\n") + "\n"))
	return err
}

// Hear returns the next line; at the connection's end, Closed.
func (a *AuthClient) Hear() string {
	a.t.Helper()
	if err := a.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		a.t.Fatal(err)
	}
	line, err := a.br.ReadString('\n')
	if err != nil {
		return Closed
	}
	return strings.TrimSuffix(line, "\n")
}

// Close closes the connection.
func (a *AuthClient) Close() { a.c.Close() }
