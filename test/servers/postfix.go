package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// postfixMaster is started without Debian's scripts around it: it is the child
// of the test then, and the head of its process group, which it ends.
const postfixMaster = "/usr/lib/postfix/sbin/master"

// A Postfix is a running submission server. Mail that it takes is thrown away.
type Postfix struct {
	*Process
	Addr string // ip:port
	// Proxied is where it expects a PROXY header first (ip:port).
	Proxied string
	// Sock is where usher must listen, unless PostfixOptions.SASL names
	// another place.
	Sock string
}

// PostfixOptions say what a site would write into deploy/postfix/usher-site.cf,
// and a little more.
type PostfixOptions struct {
	// SASL is smtpd_sasl_path: a socket below the queue folder, or
	// "inet:ip:port". "": Postfix.Sock.
	SASL string
	TLS  *Certificate // offer STARTTLS
	// Processes bounds the server processes, each of which keeps a connection
	// to usher; 0: as many as come.
	Processes int
}

// StartPostfix runs Debian's Postfix on 127.0.0.1, its configuration ending
// with deploy/postfix/usher.cf as it stands. It takes mail for every domain
// from those who are authenticated, and from nobody else.
//
// Its server processes connect to usher when the first mail client comes.
func StartPostfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	NeedOthers(t)
	dir := Dir(t)
	etc, queue, data := mkdir(t, 0o755, dir, "etc"), mkdir(t, 0o755, dir, "queue"), mkdir(t, 0o700, dir, "data")
	chown(t, "postfix", data)
	// As deploy/README.md says.
	sockDir := mkdir(t, 0o750, queue, "usher")
	_, gid := lookUp(t, "postfix")
	if err := os.Chown(sockDir, 0, gid); err != nil {
		t.Fatal(err)
	}
	p := &Postfix{Addr: Addr(t, "127.0.0.1"), Proxied: Addr(t, "127.0.0.1"), Sock: filepath.Join(sockDir, "auth")}
	if o.SASL == "" {
		o.SASL = "usher/auth"
	}

	site := "usher_sasl_path = " + o.SASL + "\nsmtpd_tls_auth_only = no\n"
	if o.TLS != nil {
		site += fmt.Sprintf("smtpd_tls_security_level = may\nsmtpd_tls_cert_file = %s\nsmtpd_tls_key_file = %s\n",
			o.TLS.CertFile, o.TLS.KeyFile)
	}
	usher, err := os.ReadFile(Deploy(t, "postfix/usher.cf"))
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %s
data_directory = %s
maillog_file = /dev/stdout
# A server process that found no usher in time ends; the next one comes soon.
service_throttle_time = 1s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.org
mydestination =
mynetworks = 192.0.2.1/32
alias_maps =
smtpd_peername_lookup = no
default_transport = discard
%s%s`, queue, data, site, usher), etc, "main.cf")
	WriteFile(t, fmt.Sprintf(`%[1]s inet n - y - %[3]d smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
%[2]s inet n - y - %[3]d smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_upstream_proxy_protocol=haproxy
anvil unix - - n - 1 anvil
bounce unix - - n - 0 bounce
cleanup unix n - n - 0 cleanup
defer unix - - n - 0 bounce
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
trace unix - - n - 0 bounce
`, p.Addr, p.Proxied, o.Processes), etc, "master.cf")

	// Makes what is missing in the queue folder.
	if out, err := exec.Command("postfix", "-c", etc, "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
	p.Process = Start(t, "postfix", postfixMaster, "-c", etc, "-d")
	p.Logged(t, 0, "that it starts", func(line string) bool {
		return strings.Contains(line, "daemon started")
	})
	return p
}
