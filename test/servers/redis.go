package servers

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisOptions say how a Redis is set up.
type RedisOptions struct {
	Addr string       // ip:port; "": a free one of 127.0.0.1
	Dir  string       // "": a new one
	TLS  *Certificate // nil: none
	Unix bool         // listens on a socket instead
	// More are lines of its configuration.
	More string
}

// A Redis is a running redis-server, or valkey-server where that is installed.
type Redis struct {
	*Process
	Addr string // ip:port, or unix:PATH
	TLS  *Certificate

	opt RedisOptions
	dir string
}

// redisProgram is the path of the server that is there, or "".
func redisProgram() string {
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// StartRedis runs one that keeps nothing on disk.
func StartRedis(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r := &Redis{opt: o, dir: o.Dir, TLS: o.TLS, Addr: o.Addr}
	if r.dir == "" {
		r.dir = Dir(t)
	}
	switch {
	case o.Unix:
		r.Addr = "unix:" + r.dir + "/redis.sock"
	case r.Addr == "":
		r.Addr = Addr(t, "127.0.0.1")
	}
	r.Start(t)
	return r
}

// Start starts it again, after Kill or Stop, empty.
func (r *Redis) Start(t testing.TB) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "dir %s\nsave \"\"\nappendonly no\nprotected-mode no\n", r.dir)
	if path, ok := strings.CutPrefix(r.Addr, "unix:"); ok {
		fmt.Fprintf(&b, "port 0\nunixsocket %s\nunixsocketperm 777\n", path)
	} else {
		ip, port := splitAddr(t, r.Addr)
		fmt.Fprintf(&b, "bind %s\n", ip)
		if r.TLS != nil {
			fmt.Fprintf(&b, "port 0\ntls-port %s\ntls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %[2]s\n", port, r.TLS.CertFile, r.TLS.KeyFile)
		} else {
			fmt.Fprintf(&b, "port %s\n", port)
		}
	}
	b.WriteString(r.opt.More)
	r.Process = Start(t, "redis "+r.Addr, redisProgram(), WriteFile(t, b.String(), r.dir, "redis.conf"))
	r.Logged(t, 0, "that it is ready", func(line string) bool { return strings.Contains(strings.ToLower(line), "ready to accept connections") })
}

// Freeze stops it in its tracks: it takes connections and says nothing. Thaw, and
// the end of the test, let it go on.
func (r *Redis) Freeze(t testing.TB) {
	t.Helper()
	p := r.Process
	p.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
}

// Thaw ends Freeze.
func (r *Redis) Thaw() { r.Signal(syscall.SIGCONT) }

// Ask sends a command to a Redis without password and TLS, and returns the first
// line of its answer, or that of a bulk string.
func (r *Redis) Ask(t testing.TB, words ...string) string {
	t.Helper()
	return askRedis(t, r.Addr, words...)
}

func askRedis(t testing.TB, addr string, words ...string) string {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w)
	}
	br := bufio.NewReader(c)
	line, err := br.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "$") && line != "$-1" {
		n, err := strconv.Atoi(line[1:])
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, n)
		for got := 0; got < n; {
			m, err := br.Read(text[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += m
		}
		return string(text)
	}
	return line
}

// waitRedis asks until the answer holds a text.
func waitRedis(t testing.TB, addr, text string, words ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := askRedis(t, addr, words...)
		if strings.Contains(got, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis %s: %q says %q, want %q", addr, words, got, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A RedisSentinel is a master and a replica that three Sentinels watch, under the
// name usher.
type RedisSentinel struct {
	Master, Replica *Redis
	Addrs           []string // of the Sentinels
}

// StartRedisSentinel runs them. The replica takes over about a second after the
// master is away.
func StartRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{Master: StartRedis(t, RedisOptions{})}
	host, port := splitAddr(t, s.Master.Addr)
	s.Replica = StartRedis(t, RedisOptions{More: fmt.Sprintf("replicaof %s %s\nrepl-diskless-sync-delay 0\n", host, port)})
	waitRedis(t, s.Replica.Addr, "master_link_status:up", "INFO", "replication")
	for range 3 {
		dir, addr := Dir(t), Addr(t, "127.0.0.1")
		_, sentinelPort := splitAddr(t, addr)
		conf := WriteFile(t, fmt.Sprintf(`bind 127.0.0.1
port %s
dir %s
protected-mode no
sentinel monitor usher %s %s 2
sentinel down-after-milliseconds usher 1000
sentinel failover-timeout usher 4000
`, sentinelPort, dir, host, port), dir, "sentinel.conf")
		p := Start(t, "sentinel "+addr, redisProgram(), conf, "--sentinel")
		p.Logged(t, 0, "that it watches", func(line string) bool { return strings.Contains(line, "+monitor") })
		s.Addrs = append(s.Addrs, addr)
	}
	for _, addr := range s.Addrs {
		waitRedis(t, addr, "slaves=1,sentinels=3", "INFO", "sentinel")
	}
	return s
}

// StartRedisCluster runs a Cluster of three masters.
func StartRedisCluster(t testing.TB) []*Redis {
	t.Helper()
	const slots = 16384
	var nodes []*Redis
	for range 3 {
		bus := Port(t, "127.0.0.1")
		nodes = append(nodes, StartRedis(t, RedisOptions{More: fmt.Sprintf("cluster-enabled yes\ncluster-port %d\ncluster-node-timeout 2000\n", bus)}))
	}
	for i, n := range nodes {
		if got := n.Ask(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/3), strconv.Itoa((i+1)*slots/3-1)); got != "+OK" {
			t.Fatal(got)
		}
		if got := n.Ask(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); got != "+OK" {
			t.Fatal(got)
		}
	}
	for _, n := range nodes[1:] {
		host, port := splitAddr(t, n.Addr)
		_, bus, _ := strings.Cut(n.opt.More, "cluster-port ")
		bus, _, _ = strings.Cut(bus, "\n")
		if got := nodes[0].Ask(t, "CLUSTER", "MEET", host, port, bus); got != "+OK" {
			t.Fatal(got)
		}
	}
	for _, n := range nodes {
		waitRedis(t, n.Addr, "cluster_state:ok", "CLUSTER", "INFO")
		waitRedis(t, n.Addr, "cluster_known_nodes:3", "CLUSTER", "INFO")
	}
	return nodes
}
