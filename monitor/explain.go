package monitor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// maxWords bounds the text of a check's error, maxTrace a line of a trace, in
// bytes. Part of them is the server's.
const (
	maxWords = 300
	maxTrace = 1000
)

// A checkError is why a check failed: the cause, and words for an operator.
type checkError struct {
	words string
	cause error
}

// Error returns the words. They have no control characters.
func (e *checkError) Error() string { return e.words }

// Unwrap returns the cause.
func (e *checkError) Unwrap() error { return e.cause }

// explain puts err, which came up at that stage of a check, into words.
func (p *prober) explain(stage string, err error) error {
	words, staged := inWords(err, p.timeout)
	words = p.hide(words)
	if staged {
		words += " (" + stage + ")"
	}
	return &checkError{printable(words, maxWords), err}
}

// said is the error of a check whose server said text at that stage, which is
// no answer, or not the one that is needed.
func (p *prober) said(stage, text string) error {
	return &checkError{printable(stage+": "+p.hide(text), maxWords), nil}
}

// unresolved is the error of a check that had no address to go to.
func unresolved(err error, timeout time.Duration) error {
	cause := err
	if l, ok := errors.AsType[*lookupError](err); ok {
		cause = l.cause
	}
	words, _ := inWords(cause, timeout)
	return &checkError{printable("name does not resolve: "+words, maxWords), err}
}

// inWords returns what err means, and whether it is worth to say when it came.
func inWords(err error, timeout time.Duration) (words string, staged bool) {
	var (
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		errno     syscall.Errno
	)
	switch {
	case errors.As(err, &hostname):
		return wrongName(hostname), false
	case errors.As(err, &authority):
		return untrusted(authority), false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return outOfDate(invalid), false
	case errors.As(err, &record):
		return "server does not speak TLS", false
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return "DNS does not answer", false
		}
		return dns.Err, false
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("timeout after %s", timeout), true
	case errors.As(err, &errno):
		return errno.Error(), errno != syscall.ECONNREFUSED
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed by server", true
	}
	return err.Error(), true
}

func wrongName(err x509.HostnameError) string {
	names := namesOf(err.Certificate)
	if names == "" {
		return "certificate names no host (it has no SAN), not " + err.Host
	}
	return fmt.Sprintf("certificate is for %s, not %s", names, err.Host)
}

// namesOf returns a certificate's hosts with commas, three at most. "": it has
// none.
func namesOf(cert *x509.Certificate) string {
	var names []string
	names = append(names, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if n := len(names); n > 3 {
		names = append(names[:3], fmt.Sprintf("%d more", n-3))
	}
	return strings.Join(names, ", ")
}

// secured says, for a trace, what a handshake came to.
func secured(cs tls.ConnectionState, unverified bool) string {
	cert := cs.PeerCertificates[0]
	names := namesOf(cert)
	if names == "" {
		names = "no host"
	}
	words := fmt.Sprintf("%s, certificate for %s until %s", tls.VersionName(cs.Version), names, cert.NotAfter.UTC().Format(time.DateOnly))
	if unverified {
		words += ", not verified"
	}
	return words
}

func untrusted(err x509.UnknownAuthorityError) string {
	if err.Cert == nil || err.Cert.Issuer.CommonName == "" {
		return "certificate is not trusted: its issuer is unknown"
	}
	return fmt.Sprintf("certificate is not trusted: its issuer %q is unknown", err.Cert.Issuer.CommonName)
}

func outOfDate(err x509.CertificateInvalidError) string {
	if time.Now().Before(err.Cert.NotBefore) {
		return "certificate is not valid before " + err.Cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return "certificate expired at " + err.Cert.NotAfter.UTC().Format(time.RFC3339)
}

// printable replaces what is no printable character and cuts what is longer than
// limit bytes: answers and certificates are a stranger's text, and this goes to
// logs and terminals.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			b.WriteString("…")
			break
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
