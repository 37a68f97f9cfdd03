package monitor_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/monitor"
	"usher/proxy"
)

func Example() {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = backend.Close() }()

	names, err := monitor.NewResolver([]string{"127.0.0.1"}, monitor.ResolverOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := monitor.New(monitor.Options{
		Servers:  []*proxy.Server{{Protocol: "imap", Host: "127.0.0.1", Port: backend.Addr().(*net.TCPAddr).Port, Weight: 100}},
		Interval: 5 * time.Second,
		Retry:    time.Second,
		Timeout:  5 * time.Second,
		Rise:     1,
		Fall:     3,
		Names:    names,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return names.Run(ctx) })
	g.Go(func() error { return m.Run(ctx) })
	if err := m.WaitReady(ctx); err != nil {
		fmt.Println(err)
	}
	for _, e := range m.View().Entries {
		fmt.Println(e.Protocol, e.Addr, e.Health)
	}
	stop()
	if err := g.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output: imap 127.0.0.1 up
}
