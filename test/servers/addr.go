package servers

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports are handed out from below the ephemeral range, so that no outgoing
// connection takes one between the look and the server's start. Each test
// binary starts elsewhere; within one no port is given twice.
const (
	firstPort = 10000
	portCount = 20000
)

var nextPort, nextClient atomic.Uint32

func init() { nextPort.Store(uint32(os.Getpid()*131) % portCount) }

// Port returns a TCP port that is free on each ip.
func Port(t testing.TB, ips ...string) int {
	t.Helper()
	for range 100 {
		port := firstPort + int(nextPort.Add(1)%portCount)
		if free(t, port, ips) {
			return port
		}
	}
	t.Fatalf("no free port on %s", ips)
	return 0
}

func free(t testing.TB, port int, ips []string) bool {
	t.Helper()
	for _, ip := range ips {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// Addr returns ip:port with a free port.
func Addr(t testing.TB, ip string) string {
	t.Helper()
	return net.JoinHostPort(ip, strconv.Itoa(Port(t, ip)))
}

// ClientIP returns an address in 127.1.0.0/16 that no client of this test
// binary had before: Dovecot lets an address that typed a wrong password wait.
func ClientIP() string {
	n := nextClient.Add(1)
	return fmt.Sprintf("127.1.%d.%d", n/250%250, n%250+1)
}

func splitAddr(t testing.TB, addr string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}
