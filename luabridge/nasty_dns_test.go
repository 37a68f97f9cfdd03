package luabridge

import (
	"context"
	"net"
	"net/netip"
)

// noDNS knows nobody.
type noDNS struct{}

func nobody(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (noDNS) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, nobody(host)
}
func (noDNS) LookupMX(_ context.Context, name string) ([]*net.MX, error)  { return nil, nobody(name) }
func (noDNS) LookupNS(_ context.Context, name string) ([]*net.NS, error)  { return nil, nobody(name) }
func (noDNS) LookupTXT(_ context.Context, name string) ([]string, error)  { return nil, nobody(name) }
func (noDNS) LookupAddr(_ context.Context, name string) ([]string, error) { return nil, nobody(name) }
func (noDNS) LookupCNAME(_ context.Context, name string) (string, error)  { return "", nobody(name) }
