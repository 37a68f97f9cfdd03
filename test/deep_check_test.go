package test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/monitor"
	room "usher/proxy"
	"usher/test/servers"
)

// Health checks log in at a real Dovecot, in the clear and after STARTTLS, and
// the words for a login that fails are Dovecot's own.
func TestDeepChecks(t *testing.T) {
	t.Parallel()
	const ip = "127.0.0.2"
	const password = `it's a "secret" \o/ of hörse`
	cert := servers.NewCertificate(t, ip)
	backend := servers.StartDovecotBackend(t, ip, servers.Users{"probe": password}, cert)
	tests := []struct {
		protocol, service string
		refused           string // how the error begins
	}{
		{"imap", "imap", "login refused: [AUTHENTICATIONFAILED] Authentication failed."},
		{"pop3", "pop3", "login refused: [AUTH] Authentication failed."},
		{"smtp", "submission", "login refused: 535 5.7.8 "},
		{"sieve", "sieve", `login refused: "Authentication failed."`},
		{"lmtp", "lmtp", "RCPT refused: 550 5.1.1 "},
	}
	var entries []*room.Server
	for _, tt := range tests {
		for _, startTLS := range []bool{false, true} {
			for _, user := range []string{"probe", "nobody"} {
				at := netip.MustParseAddrPort(backend.Addr[tt.service])
				entries = append(entries, &room.Server{
					Protocol: tt.protocol, Host: ip, Port: int(at.Port()), StartTLS: startTLS, DeepCheck: true,
					TestUsername: user, TestPassword: room.NewSecret(password), Weight: 100,
				})
			}
		}
	}
	names, err := monitor.NewResolver(nil, monitor.ResolverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range entries {
		tt := tests[i/4]
		layer := map[bool]string{false: "clear", true: "starttls"}[s.StartTLS]
		t.Run(tt.protocol+"/"+layer+"/"+s.TestUsername, func(t *testing.T) {
			t.Parallel()
			m, err := monitor.New(monitor.Options{
				Servers: []*room.Server{s}, Names: names, Roots: cert.Pool,
				Interval: time.Hour, Retry: time.Hour, Timeout: time.Minute, Rise: 1, Fall: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			err = m.CheckConnection(t.Context(), s)
			switch {
			case s.TestUsername == "probe" && err != nil:
				t.Error(err)
			case s.TestUsername == "nobody" && (err == nil || !strings.HasPrefix(err.Error(), tt.refused)):
				t.Errorf("%v, want %q", err, tt.refused)
			}
		})
	}
}
