package test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/test/servers"
)

const crowd = 5000

func authLine(id uint32, user string) string {
	resp := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00secret"))
	return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=imap\tsecured\tlip=127.0.0.1\tlport=143\trip=192.0.2.7\trport=4711\tresp=%s", id, resp)
}

// gauge is a value of usher's metrics.
func gauge(t *testing.T, u *servers.Usher, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(u.Get(t, "/metrics"))
	if m == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Five thousand login processes, interposed before a real auth server: all are
// answered, each its own, while one floods without ever reading and others leave
// in the middle; and nothing is left behind when they are gone.
func TestCrowd(t *testing.T) {
	r := startDirectorRig(t, "")
	before := gauge(t, r.usher, "go_goroutines")

	clients := make([]*servers.AuthClient, crowd)
	var next atomic.Int32
	var wg sync.WaitGroup
	each := func(f func(n int)) {
		next.Store(0)
		for range 32 {
			wg.Go(func() {
				for n := int(next.Add(1)) - 1; n < crowd; n = int(next.Add(1)) - 1 {
					f(n)
				}
			})
		}
		wg.Wait()
	}
	// PIDs that no process has: the auth server refuses one that it knows.
	each(func(n int) { clients[n] = servers.DialAuth(t, r.sock, 5_000_000+n) })
	if t.Failed() {
		return
	}

	flood := servers.DialAuth(t, r.sock, 6_000_000)
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		for id := uint32(1); flood.TrySay(authLine(id, "plain")) == nil; id++ {
		}
	}()

	slowest := atomic.Int64{}
	for round := range 2 {
		each(func(n int) {
			c, id := clients[n], uint32(1<<32-1-round) // rising ids may come to this
			begin := time.Now()
			switch n % 10 {
			case 8: // gives up
				c.Say(authLine(id, "plain"), fmt.Sprintf("CANCEL\t%d", id), fmt.Sprintf("CANCEL\t%d", id-7))
				c.Say(authLine(id-9, "tagged"))
				for line := c.Hear(); !strings.HasPrefix(line, fmt.Sprintf("OK\t%d\t", id-9)); line = c.Hear() {
					if !strings.HasPrefix(line, fmt.Sprintf("OK\t%d\t", id)) {
						t.Errorf("client %d: %q", n, line)
						return
					}
				}
			case 9: // leaves in the middle
				if round == 0 {
					c.Say(authLine(id, "plain"))
					c.Close()
				}
				return
			default:
				c.Say(authLine(id, "plain"))
				if line := c.Hear(); !strings.HasPrefix(line, fmt.Sprintf("OK\t%d\tuser=plain\t", id)) {
					t.Errorf("client %d: %q", n, line)
					return
				}
			}
			took := int64(time.Since(begin))
			for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
			}
		})
	}
	t.Logf("slowest login of %d: %s; resident memory %.0f MiB", 2*crowd, time.Duration(slowest.Load()).Round(time.Millisecond),
		gauge(t, r.usher, "process_resident_memory_bytes")/(1<<20))
	select {
	case <-flooding:
	case <-time.After(time.Second):
		flood.Close()
		<-flooding
	}
	for _, c := range clients {
		c.Close()
	}
	// All that served them ends.
	for end := time.Now().Add(20 * time.Second); ; {
		now := gauge(t, r.usher, "go_goroutines")
		if now < before+300 { // workers that wait for work
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%.0f goroutines, %.0f before the crowd came", now, before)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// The auth server behind usher is killed again and again under load: nobody is
// told that the password is wrong, nobody waits for ever, and once it is back
// everybody gets in.
func TestUpstreamRestarts(t *testing.T) {
	t.Parallel()
	r := newKeptRig(t, "")
	stop := r.load(t, 4)
	for range 5 {
		<-time.After(500 * time.Millisecond)
		if n := killAuth(t, r.proxy); n == 0 {
			t.Error("no auth process to kill")
		}
	}
	<-time.After(time.Second)
	told := stop()
	t.Logf("logins while the auth process was killed five times: %v", told)
	for what := range told.counts {
		switch what {
		case "OK", "NO [UNAVAILABLE]", "-ERR [SYS/TEMP]":
		default:
			t.Errorf("told %s", what)
		}
	}
	if told.counts["OK"] < 30 {
		t.Errorf("told %v, want OK for the most", told)
	}
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			expectBackend(t, servers.Dial(t, protocol, f.addr[protocol]), user("two", 0), "127.0.0.2")
		}
	}
}

// killAuth kills the auth processes of a Dovecot and returns how many there were.
func killAuth(t *testing.T, d *servers.DovecotProxy) int {
	t.Helper()
	n := 0
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid …
		head, rest, _ := strings.Cut(string(text), " (")
		comm, rest, _ := strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if comm != "auth" || len(fields) < 2 || fields[1] != strconv.Itoa(d.PID()) {
			continue
		}
		pid, err := strconv.Atoi(head)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			n++
		}
	}
	return n
}
