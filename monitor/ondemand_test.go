package monitor

import (
	"net"
	"strings"
	"testing"

	"usher/proxy"
)

func TestCheckConnection(t *testing.T) {
	r, err := NewResolver(nil, ResolverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opt := options()
	opt.Names = r
	m, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := open.Addr().(*net.TCPAddr).Port
	s := &proxy.Server{Protocol: "imap", Host: "127.0.0.1", Port: port}
	if err := m.CheckConnection(t.Context(), s); err != nil {
		t.Errorf("an open port: %v", err)
	}
	if err := m.CheckConnection(t.Context(), &proxy.Server{Host: "127.0.0.1", Port: port}); err != nil {
		t.Errorf("an open port, without a protocol: %v", err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.CheckConnection(t.Context(), s); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
}
