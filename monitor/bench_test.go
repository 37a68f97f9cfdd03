package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"usher/proxy"
)

// settled is a Resolver that knows a.example.org, and a Monitor of n backends.
func settled(tb testing.TB, n int) (*Monitor, *Resolver) {
	tb.Helper()
	r, err := NewResolver([]string{"a.example.org"}, ResolverOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	r.configured.Load().known["a.example.org"].answer.Store(&answer{addr: netip.MustParseAddr("192.0.2.1"), at: time.Now()})
	opt := options()
	opt.Names = r
	for i := range n {
		opt.Servers = append(opt.Servers, server("imap", fmt.Sprintf("10.0.%d.%d", i/256, i%256), 143))
	}
	m, err := New(opt)
	if err != nil {
		tb.Fatal(err)
	}
	return m, r
}

func TestAllocations(t *testing.T) {
	m, r := settled(t, 0)
	ctx := context.Background()
	for name, f := range map[string]func(){
		"View":           func() { m.View() },
		"WaitReady":      func() { _ = m.WaitReady(ctx) },
		"Lookup name":    func() { _, _ = r.Lookup(ctx, "a.example.org") },
		"Lookup address": func() { _, _ = r.Lookup(ctx, "192.0.2.1") },
		"Lookup ipv6":    func() { _, _ = r.Lookup(ctx, "2001:db8::1") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkView(b *testing.B) {
	m, _ := settled(b, 2000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.View()
		}
	})
}

func BenchmarkWaitReady(b *testing.B) {
	m, _ := settled(b, 0)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = m.WaitReady(ctx)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	_, r := settled(b, 0)
	ctx := context.Background()
	for _, host := range []string{"a.example.org", "192.0.2.1", "2001:db8::1"} {
		b.Run("host="+host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Lookup(ctx, host)
			}
		})
	}
}

// What a transition costs the publisher.
func BenchmarkRebuild(b *testing.B) {
	for _, n := range []int{20, 2000} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			m, _ := settled(b, n)
			st := [2]*state{{health: proxy.Up, checkedAt: time.Now().Add(time.Hour)}, {health: proxy.Down, checkedAt: time.Now().Add(time.Hour)}}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				m.targets[0].state.Store(st[i%2])
				m.rebuild()
			}
		})
	}
}
