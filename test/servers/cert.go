package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// A Certificate is one for a few loopback addresses, or for names: self-signed, or
// signed by an Authority.
type Certificate struct {
	CertFile, KeyFile string
	Pool              *x509.CertPool // trusts it

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCertificate makes a certificate for ips and writes it to a folder of the
// test.
func NewCertificate(t testing.TB, ips ...string) *Certificate {
	t.Helper()
	return NewNamedCertificate(t, "usher test", ips...)
}

// NewNamedCertificate makes one whose subject is CN=name.
func NewNamedCertificate(t testing.TB, name string, ips ...string) *Certificate {
	t.Helper()
	tmpl := unsigned(name, ips)
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	return newCertificate(t, tmpl, nil)
}

// An Authority signs certificates. Who trusts it trusts them.
type Authority struct{ *Certificate }

// NewAuthority makes one. Its CertFile is for those who are to trust it.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	return &Authority{NewNamedCertificate(t, name)}
}

// Issue makes a certificate for hosts, addresses or names, that is valid until
// that time.
func (a *Authority) Issue(t testing.TB, until time.Time, hosts ...string) *Certificate {
	t.Helper()
	tmpl := unsigned("server", hosts)
	tmpl.NotBefore, tmpl.NotAfter = until.Add(-2*time.Hour), until
	return newCertificate(t, tmpl, a)
}

func unsigned(name string, hosts []string) *x509.Certificate {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, host)
		}
	}
	return tmpl
}

// newCertificate signs a certificate by an authority, or by itself. Pool trusts
// whoever signed.
func newCertificate(t testing.TB, tmpl *x509.Certificate, by *Authority) *Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &Certificate{Pool: x509.NewCertPool(), key: key}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		c.Pool.AddCert(c.cert)
	} else {
		c.Pool = by.Pool
	}
	dir := Dir(t)
	c.CertFile = WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), dir, "cert.pem")
	c.KeyFile = WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), dir, "key.pem")
	return c
}

// Pair is the certificate with its key, for a server in the test.
func (c *Certificate) Pair() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}
}
