package dovecot

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"usher/proxy"
)

// always routes everybody to one place.
type always struct{}

func (always) Handle(_ context.Context, r *proxy.Request) proxy.Decision {
	return proxy.Decision{
		Outcome: proxy.Routed, User: r.Account(), Password: r.Password,
		Host: "127.0.0.2", Port: 143, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 2}),
	}
}

func (always) Record(_ *proxy.Request, d proxy.Decision) proxy.Decision { return d }

// BenchmarkDovecot is the adapter alone, with its clients: one iteration is one
// login over a unix socket, by PLAIN with an initial response.
func BenchmarkDovecot(b *testing.B) {
	for _, outstanding := range []int{1, 64} {
		b.Run(fmt.Sprintf("conns=8/outstanding=%d", outstanding), func(b *testing.B) {
			benchLogins(b, 8, outstanding)
		})
	}
}

func benchLogins(b *testing.B, conns, outstanding int) {
	opt := testOptions(always{})
	dial := served(b, opt)
	clients := make([]net.Conn, conns)
	readers := make([]*bufio.Reader, conns)
	for i := range clients {
		clients[i] = dial()
		readers[i] = bufio.NewReaderSize(clients[i], 64<<10)
		for line := ""; line != "DONE\n"; {
			var err error
			if line, err = readers[i].ReadString('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range clients {
		share := b.N / conns
		if i < b.N%conns {
			share++
		}
		wg.Go(func() {
			if err := logIn(clients[i], readers[i], share, outstanding); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
}

// logIn makes n logins, of which outstanding wait for their answer at a time.
func logIn(c net.Conn, in *bufio.Reader, n, outstanding int) error {
	var out []byte
	sent, open := 0, 0
	for done := 0; done < n; {
		out = out[:0]
		for ; open < outstanding && sent < n; open++ {
			sent++
			out = append(out, "AUTH\t"...)
			out = strconv.AppendInt(out, int64(sent), 10)
			out = append(out, "\tPLAIN\tservice=imap\tsecured\tsession=St2K8\tlip=127.0.0.1\trip=127.0.0.1\tlport=143\trport=48572\tresp=AGFsaWNlQGV4YW1wbGUub3JnAHMzY3JldA==\n"...)
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		for more := true; more; more = in.Buffered() > 0 && done < n {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if line[0] != 'O' {
				return fmt.Errorf("answered %q: %w", line, io.ErrUnexpectedEOF)
			}
			done++
			open--
		}
	}
	return nil
}
