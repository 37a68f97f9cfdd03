package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A LookupFunc asks for the addresses of a host name, as
// net.Resolver.LookupNetIP does, and for how long they are good; 0: the answer
// does not say. It must return when ctx ends.
type LookupFunc func(ctx context.Context, host string) ([]netip.Addr, time.Duration, error)

// A SRVLookupFunc asks for the SRV records of a name, as net.Resolver.LookupSRV
// does, and for how long they are good; 0: the answer does not say. Records that
// come with an error are good ones. It must return when ctx ends.
type SRVLookupFunc func(ctx context.Context, name string) ([]*net.SRV, time.Duration, error)

// nameServers are whom to ask, each ip:port, one after the other. None: those of
// /etc/resolv.conf. The search list and /etc/hosts are the system's all the same.
type nameServers []string

// faults names those that are no ip:port.
func (s nameServers) faults() []error {
	var faults []error
	for _, address := range s {
		if _, err := netip.ParseAddrPort(address); err != nil {
			faults = append(faults, fmt.Errorf("monitor: %.80q is no address of a name server; expected IP:PORT", address))
		}
	}
	return faults
}

// addresses is a LookupFunc.
func (s nameServers) addresses(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error) {
	ttl, err = s.ask(ctx, func(ctx context.Context, r *net.Resolver) (err error) {
		addrs, err = r.LookupNetIP(ctx, "ip", host)
		return err
	})
	return addrs, ttl, err
}

// records is a SRVLookupFunc.
func (s nameServers) records(ctx context.Context, name string) (records []*net.SRV, ttl time.Duration, err error) {
	ttl, err = s.ask(ctx, func(ctx context.Context, r *net.Resolver) (err error) {
		_, records, err = r.LookupSRV(ctx, "", "", name)
		return err
	})
	return records, ttl, err
}

// ask lets question use a resolver of its own, whose connections tell the TTL. The
// next server is asked if one does not answer.
func (s nameServers) ask(ctx context.Context, question func(context.Context, *net.Resolver) error) (ttl time.Duration, err error) {
	for i := range max(len(s), 1) {
		var t ttlReader
		r := &net.Resolver{PreferGo: true, Dial: t.dial}
		if len(s) > 0 {
			r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) { return t.dial(ctx, network, s[i]) }
		}
		part, cancel := share(ctx, len(s)-i)
		err = question(part, r)
		cancel()
		ttl = t.ttl()
		var dns *net.DNSError
		if err == nil || ctx.Err() != nil || (errors.As(err, &dns) && dns.IsNotFound) {
			break
		}
	}
	return ttl, err
}

// share gives the first of n who follow each other his part of the time that is
// left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || n < 2 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}
