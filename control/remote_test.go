package control

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"usher/proxy"
)

func TestRemote(t *testing.T) {
	verified := &tls.ConnectionState{
		VerifiedChains:   [][]*x509.Certificate{{}},
		PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "alice"}}},
	}
	tests := []struct {
		name, token, said string
		tls               *tls.ConnectionState
		want              string // who; "": refused
	}{
		{"token", "geheim", "Bearer geheim", nil, "token"},
		{"wrong token", "geheim", "Bearer geheim1", nil, ""},
		{"no token", "geheim", "", nil, ""},
		{"another scheme", "geheim", "Basic geheim", nil, ""},
		{"a certificate is not enough beside a token", "geheim", "", verified, ""},
		{"certificate and token", "geheim", "Bearer geheim", verified, "certificate alice"},
		{"certificate", "", "", verified, "certificate alice"},
		{"a certificate that nobody verified", "", "", &tls.ConnectionState{PeerCertificates: verified.PeerCertificates}, ""},
		{"nothing is asked for", "", "Bearer ", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			who := ""
			h := Remote(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { who = peerName(r) }), proxy.NewSecret(tt.token))
			r := httptest.NewRequest(http.MethodGet, "/v1/status", nil)
			r.TLS = tt.tls
			if tt.said != "" {
				r.Header.Set("Authorization", tt.said)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if who != tt.want || (who == "") != (w.Code == http.StatusUnauthorized) {
				t.Errorf("%q, %d; want %q", who, w.Code, tt.want)
			}
			if strings.Contains(w.Body.String(), "geheim") {
				t.Errorf("%s", w.Body)
			}
		})
	}
}
