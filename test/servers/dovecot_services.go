package servers

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

// ListenerModes are the ways in which a DovecotServices can be spoken to.
// "haproxy" listeners expect a PROXY header first.
var ListenerModes = []string{"plain", "starttls", "tls", "haproxy", "haproxy-starttls", "haproxy-tls"}

// listeners are inet_listeners by protocol.
type listeners map[string][]dovecotListener

type dovecotListener struct {
	Mode         string
	Port         int
	TLS, HAProxy string // yes or no
}

// A DovecotServices is one Dovecot that can be spoken to in every way that it
// knows, on each of a few addresses, and by which others can authenticate.
type DovecotServices struct {
	*Dovecot
	// Port has those of each of LoginProtocols and of lmtp, by mode.
	Port map[string]map[string]int
	Auth string // ip:port of its auth process
}

// StartDovecotServices runs one on ips, with a certificate for them. Its users
// have no mail.
func StartDovecotServices(t testing.TB, ips []string, users Users, cert *Certificate) *DovecotServices {
	t.Helper()
	dir := Dir(t)
	chown(t, "nobody", mkdir(t, 0o755, dir, "mail"))
	_, relay := splitAddr(t, StartSMTPSink(t, "127.0.0.1").Addr)
	s := &DovecotServices{Dovecot: &Dovecot{Base: dir + "/run", name: "services"}, Port: map[string]map[string]int{}}
	all := listeners{}
	listen := func(protocol, mode string) int {
		port := Port(t, ips...)
		all[protocol] = append(all[protocol], dovecotListener{
			mode, port, yes(strings.HasSuffix(mode, "-tls") || mode == "tls"), yes(strings.HasPrefix(mode, "haproxy")),
		})
		return port
	}
	for _, protocol := range append([]string{"lmtp"}, LoginProtocols...) {
		s.Port[protocol] = map[string]int{}
		for _, mode := range ListenerModes {
			s.Port[protocol][mode] = listen(protocol, mode)
		}
	}
	s.Auth = net.JoinHostPort(ips[0], strconv.Itoa(listen("auth", "plain")))
	s.conf = installedDialect(t).write(t, "services", &dovecotConf{
		Dir: dir, Name: s.name, IP: strings.Join(ips, ", "), TLS: cert, Passwd: users.Passwd(t, dir, "passwd"), Relay: relay,
		Listeners: all,
	}, "dovecot.conf")
	s.Start(t)
	return s
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
