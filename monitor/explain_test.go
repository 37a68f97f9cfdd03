package monitor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUnresolved(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"not found", &lookupError{"a", &net.DNSError{Err: "no such host", Name: "a", Server: "127.0.0.53:53", IsNotFound: true}},
			"name does not resolve: no such host"},
		{"dns is silent", fmt.Errorf("x: %w", &net.DNSError{Err: "i/o timeout", IsTimeout: true}), "name does not resolve: DNS does not answer"},
		{"no address", &lookupError{"a", errNoAddress}, "name does not resolve: the answer has no usable address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := unresolved(tt.err, 5*time.Second)
			if err.Error() != tt.want {
				t.Errorf("%q, want %q", err, tt.want)
			}
			if !errors.Is(err, tt.err) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestExplain_Errno(t *testing.T) {
	p := newProber(nil, time.Second)
	for errno, want := range map[syscall.Errno]string{
		syscall.ECONNREFUSED: "connection refused",
		syscall.EHOSTUNREACH: "no route to host (connect)",
		syscall.EMFILE:       "too many open files (connect)",
		syscall.ETIMEDOUT:    "connection timed out (connect)",
	} {
		err := p.explain("connect", &net.OpError{Op: "dial", Err: errno})
		if err.Error() != want || !errors.Is(err, errno) {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// A certificate is a stranger's text.
func TestExplain_HostileNames(t *testing.T) {
	cert := &x509.Certificate{DNSNames: []string{"a\r\n\x1b[31mred", strings.Repeat("é", 4000), "\xff"}}
	got := newProber(nil, time.Second).explain("TLS handshake", x509.HostnameError{Certificate: cert, Host: "imap.example.org"}).Error()
	if !strings.HasPrefix(got, "certificate is for a???[31mred, é") {
		t.Errorf("%.60q", got)
	}
	if len(got) > maxWords+len("é…") {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("certificate is for a\x00b")
	f.Add("\xff\u202e\u2028…")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s, maxWords)
		if len(got) > maxWords+8 {
			t.Errorf("%d bytes", len(got))
		}
		if strings.ContainsAny(got, "\x00\r\n\x1b\u202e\u2028\x7f") {
			t.Errorf("%q", got)
		}
		if got != printable(got, maxWords) && len(got) < maxWords {
			t.Errorf("not stable: %q", got)
		}
	})
}
