package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/config"
)

// benchApp runs the whole of usher, with the built-in policy and eight
// backends, and a log that goes nowhere.
func benchApp(b *testing.B) (dovecotSock, authHTTP string) {
	b.Helper()
	dir, err := os.MkdirTemp("", "ush")
	if err != nil {
		b.Fatal(err)
	}
	cfg := config.Default()
	cfg.Control = config.Control{}
	cfg.StateDir = filepath.Join(dir, "state")
	sock := filepath.Join(dir, "auth")
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	authHTTP = probe.Addr().String()
	if err := probe.Close(); err != nil {
		b.Fatal(err)
	}
	cfg.Dovecot.Listeners = []config.DovecotListener{{
		Address: config.Address{Network: "unix", Addr: sock}, Kind: "auth", Mode: 0o600, Mechanisms: []string{"PLAIN"},
	}}
	cfg.Nginx.Listeners = []config.NginxListener{{
		Address: config.Address{Network: "tcp", Addr: authHTTP}, Path: "/auth", Protocols: []string{"imap"},
	}}
	for i := range 8 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+2))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		at := netip.MustParseAddrPort(ln.Addr().String())
		cfg.Monitoring.BackendServers = append(cfg.Monitoring.BackendServers,
			config.Backend{Protocol: "imap", Host: at.Addr().String(), Port: int(at.Port()), Weight: 100})
	}
	logs := newLogging(io.Discard, cfg.Log)
	a, err := newApp(cfg, "benchmark", nil, logs)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.Run(ctx, cfg, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, os.RemoveAll(dir)); err != nil {
			b.Error(err)
		}
		logs.close()
	})
	if err := a.gen.Load().monitor.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	return sock, authHTTP
}

// BenchmarkDovecot: logins of 10,000 users over 8 connections.
func BenchmarkDovecot(b *testing.B) {
	const conns = 8
	for _, outstanding := range []int{1, 64} {
		b.Run(fmt.Sprintf("conns=%d/outstanding=%d", conns, outstanding), func(b *testing.B) {
			sock, _ := benchApp(b)
			var left atomic.Int64
			var peers []*bufio.ReadWriter
			for i := range conns {
				c, err := net.Dial("unix", sock)
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				rw := bufio.NewReadWriter(bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10))
				fmt.Fprintf(rw, "VERSION\t1\t2\nCPID\t%d\n", i+1)
				for line := ""; line != "DONE\n"; {
					if line, err = rw.ReadString('\n'); err != nil {
						b.Fatal(err)
					}
				}
				peers = append(peers, rw)
			}
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			start := time.Now()
			var g errgroup.Group
			for i, rw := range peers {
				g.Go(func() error { return dovecotLoad(rw, i, outstanding, &left) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "logins/s")
		})
	}
}

func dovecotLoad(rw *bufio.ReadWriter, conn, outstanding int, left *atomic.Int64) error {
	id := 0
	var resp []byte
	send := func() bool {
		if left.Add(-1) < 0 {
			return false
		}
		id++
		user := fmt.Sprintf("\x00user%d@example.org\x00secret", (id*7+conn)%10000)
		resp = base64.StdEncoding.AppendEncode(resp[:0], []byte(user))
		fmt.Fprintf(rw, "AUTH\t%d\tPLAIN\tservice=imap\tsecured\tsession=St2K8\tlip=127.0.0.1\trip=127.0.0.1\tlport=143\trport=48572\tresp=%s\n", id, resp)
		return true
	}
	waiting := 0
	for range outstanding {
		if send() {
			waiting++
		}
	}
	for waiting > 0 {
		if err := rw.Flush(); err != nil {
			return err
		}
		for more := true; more && waiting > 0; more = rw.Reader.Buffered() > 0 {
			line, err := rw.ReadSlice('\n')
			if err != nil {
				return err
			}
			if string(line[:3]) != "OK\t" {
				return fmt.Errorf("answer: %s", line)
			}
			waiting--
			if send() {
				waiting++
			}
		}
	}
	return nil
}

// BenchmarkAuthHTTP: requests as nginx sends them, on kept connections and on a
// connection each.
func BenchmarkAuthHTTP(b *testing.B) {
	const conns = 8
	for _, keep := range []bool{true, false} {
		b.Run(fmt.Sprintf("keepalive=%v/conns=%d", keep, conns), func(b *testing.B) {
			_, addr := benchApp(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			start := time.Now()
			var g errgroup.Group
			for i := range conns {
				g.Go(func() error { return httpLoad(addr, i, keep, &left) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "requests/s")
		})
	}
}

func httpLoad(addr string, conn int, keep bool, left *atomic.Int64) error {
	version := "1.0"
	if keep {
		version = "1.1"
	}
	var c net.Conn
	var r *bufio.Reader
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for n := conn; left.Add(-1) >= 0; n += 7 {
		if c == nil {
			var err error
			if c, err = net.Dial("tcp", addr); err != nil {
				return err
			}
			r = bufio.NewReader(c)
		}
		if _, err := fmt.Fprintf(c, "GET /auth HTTP/%s\r\nHost: localhost\r\nAuth-Method: plain\r\nAuth-User: user%d@example.org\r\nAuth-Pass: secret\r\nAuth-Protocol: imap\r\nAuth-Login-Attempt: 1\r\nClient-IP: 127.0.0.1\r\n\r\n", version, n%10000); err != nil {
			return err
		}
		ok := false
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			ok = ok || line == "Auth-Status: OK\r\n"
			if strings.TrimSpace(line) == "" {
				break
			}
		}
		if !ok {
			return errors.New("not OK")
		}
		if !keep {
			if err := c.Close(); err != nil {
				return err
			}
			c = nil
		}
	}
	return nil
}
