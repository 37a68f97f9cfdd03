package nginx

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"usher/proxy"
)

// always routes everybody to one place.
type always struct{}

func (always) Handle(_ context.Context, r *proxy.Request) proxy.Decision {
	return proxy.Decision{
		Outcome: proxy.Routed, User: r.User, Password: r.Password,
		Host: "127.0.0.2", Port: 143, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 2}),
	}
}

func (always) Record(_ *proxy.Request, d proxy.Decision) proxy.Decision { return d }

// BenchmarkAuthHTTP is the adapter alone, with its eight clients: one iteration
// is one request over TCP, on a kept connection or, as nginx does it, on one of
// its own.
func BenchmarkAuthHTTP(b *testing.B) {
	one := asNginx("alice@example.org", "s3cret", "imap")
	b.Run("keepalive", func(b *testing.B) {
		addr, _ := serve(b, testOptions(always{}), "tcp")
		benchClients(b, func(n int) error {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				return err
			}
			defer c.Close()
			in := bufio.NewReader(c)
			kept := []byte(strings.Replace(one, "HTTP/1.0", "HTTP/1.1", 1))
			for range n {
				if err := exchange(c, in, kept); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("connection-per-request", func(b *testing.B) {
		addr, _ := serve(b, testOptions(always{}), "tcp")
		benchClients(b, func(n int) error {
			in := bufio.NewReader(nil)
			for range n {
				c, err := net.Dial("tcp", addr.String())
				if err != nil {
					return err
				}
				in.Reset(c)
				err = exchange(c, in, []byte(one))
				if err := errors.Join(err, c.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func benchClients(b *testing.B, client func(n int) error) {
	const clients = 8
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range clients {
		share := b.N / clients
		if i < b.N%clients {
			share++
		}
		wg.Go(func() {
			if err := client(share); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// exchange sends a request and reads the headers of its reply.
func exchange(c net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	ok := false
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case string(line) == "Auth-Status: OK\r\n":
			ok = true
		case len(line) == 2:
			if !ok {
				return fmt.Errorf("no Auth-Status: OK")
			}
			return nil
		}
	}
}
