package servers

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// exim is where test/install-deps.sh unpacks Debian's exim4-daemon-heavy, which
// excludes the package postfix.
const exim = "/var/cache/usher-test/exim/usr/sbin/exim4"

// An Exim is a running submission server. Mail that it takes stays in its
// spool.
type Exim struct {
	*Process
	Addr string // ip:port
}

// EximOptions say what a site would write into deploy/exim/usher-site.conf, and
// a little more.
type EximOptions struct {
	// Socket is where usher listens: a path, or "ip port".
	Socket string
	TLS    *Certificate // of STARTTLS; nil: one that Exim makes
}

// StartExim runs Debian's Exim (the heavy build) on 127.0.0.1, with
// deploy/exim/usher.conf included as it stands. It takes mail for every domain
// from those who are authenticated, and from nobody else.
func StartExim(t testing.TB, o EximOptions) *Exim {
	t.Helper()
	NeedOthers(t)
	dir := Dir(t)
	spool := mkdir(t, 0o700, dir, "spool")
	chown(t, "Debian-exim", spool)
	e := &Exim{Addr: Addr(t, "127.0.0.1")}
	ip, port := splitAddr(t, e.Addr)
	var tls string
	if o.TLS != nil {
		tls = fmt.Sprintf("tls_certificate = %s\ntls_privatekey = %s\n", o.TLS.CertFile, o.TLS.KeyFile)
	}
	WriteFile(t, fmt.Sprintf("USHER_SOCKET = %s\nUSHER_ADVERTISE = yes\n", o.Socket), dir, "usher-site.conf")
	// exim_path: it starts itself again to remove its pid file.
	conf := WriteFile(t, fmt.Sprintf(`.include usher-site.conf
exim_path = %s
primary_hostname = mx.example.org
spool_directory = %[2]s
log_file_path = %[2]s/%%slog
pid_file_path = %[2]s/pid
local_interfaces = %s.%s
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 100
queue_only
auth_advertise_hosts = *
%sacl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept authenticated = *
  deny message = relay not permitted
begin authenticators
.include %s
`, exim, spool, ip, port, tls, copyDeploy(t, "exim/usher.conf")), dir, "exim.conf")
	// -v shows its log.
	e.Process = Start(t, "exim", exim, "-bdf", "-v", "-C", conf)
	e.Logged(t, 0, "that it starts", func(line string) bool {
		return strings.Contains(line, "daemon started")
	})
	return e
}

// EximAuthenticator returns the settings of one of the authenticators in
// deploy/exim, with the site file that stands there, a line each.
func EximAuthenticator(t testing.TB, name string) string {
	t.Helper()
	conf := WriteFile(t, fmt.Sprintf(".include %s\nkeep_environment =\nbegin authenticators\n.include %s\n",
		copyDeploy(t, "exim/usher-site.conf"), copyDeploy(t, "exim/usher.conf")), Dir(t), "exim.conf")
	out, err := exec.Command(exim, "-C", conf, "-bP", "authenticator", name).CombinedOutput()
	if err != nil {
		t.Fatalf("exim -bP: %v\n%s", err, out)
	}
	return string(out)
}
