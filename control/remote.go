package control

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	"usher/proxy"
)

// Remote lets in who shows the token as bearer (RFC 6750), or, where the token is
// empty, a client certificate that the listener's TLS has verified. Who it was is
// known by the certificate's common name, else as "token".
func Remote(h http.Handler, token proxy.Secret) http.Handler {
	want := sha256.Sum256([]byte(token.Reveal()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "token"
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			name = "certificate " + r.TLS.PeerCertificates[0].Subject.CommonName
		} else if token.IsEmpty() {
			refuse(w)
			return
		}
		if !token.IsEmpty() {
			said, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			got := sha256.Sum256([]byte(said)) // of equal length, whatever was said
			if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				refuse(w)
				return
			}
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), remoteKey{}, name)))
	})
}

type remoteKey struct{}

func refuse(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="usher"`)
	http.Error(w, `{"error":"expected the token of control.tcp, or a client certificate"}`, http.StatusUnauthorized)
}

// RemoteTLS reads the certificate of control.tcp, and with clientCA, PEM, asks
// clients for one of that authority. nil without certFile.
func RemoteTLS(certFile, keyFile string, clientCA []byte) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if clientCA == nil {
		return cfg, nil
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(clientCA) {
		return nil, errors.New("client_ca has no certificate")
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	return cfg, nil
}
