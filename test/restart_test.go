package test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/test/servers"
)

// A kept rig is one usher whose sockets outlive it, and Dovecot proxies before it.
type keptRig struct {
	usher  *servers.Usher
	proxy  *servers.DovecotProxy
	fronts []*front
}

func newKeptRig(t *testing.T, more string) *keptRig {
	t.Helper()
	backend := servers.StartDovecotBackend(t, "127.0.0.2", people, nil)
	var inventory strings.Builder
	for _, protocol := range mailProtocols[:2] {
		host, port, err := net.SplitHostPort(backend.Addr[protocol])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: %s, host: %s, port: %s}\n", protocol, host, port)
	}
	proxy := servers.StartDovecotProxy(t, "127.0.0.1", people)
	sockets := servers.OpenSockets(t, map[string]string{
		"auth": proxy.Sock, "notify": proxy.Notify, "userdb": proxy.Userdb,
	})
	r := &keptRig{proxy: proxy}
	r.usher = servers.StartUsherOn(t, sockets, fmt.Sprintf(`failure_delay: 0s
dovecot:
  listeners:
    - {address: "fd:auth", upstream: "unix:%s"}
    - {address: "fd:userdb", kind: userdb}
    - {address: "fd:notify", kind: notify}
passdb:
  - {driver: passwd_file, path: %q}
%sbackend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, proxy.Upstream, people.Passwd(t, servers.Dir(t), "passwd"), more, inventory.String()))
	r.fronts = []*front{{servers.DovecotVersion(t) + "_Interposed", proxy.Addr}}
	return r
}

// A tally counts what mail clients were told, by the beginning of it.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.counts)
}

// load logs in again and again, by as many clients at a time for each front and
// protocol, until the returned function is called; that returns what they were
// told, once the last has its answer. A client that gets none fails the test.
func (r *keptRig) load(t *testing.T, clients int) (stop func() *tally) {
	told := &tally{counts: map[string]int{}}
	end := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			for n := range clients {
				wg.Go(func() {
					for {
						select {
						case <-end:
							return
						default:
						}
						c, reply := servers.TryDial(t, protocol, f.addr[protocol])
						if reply == "" {
							reply = c.Login(user("two", n%8), password)
						}
						if c.OK(reply) {
							reply = "OK"
						}
						told.add(strings.Join(strings.Fields(reply)[:min(2, len(strings.Fields(reply)))], " "))
						c.Close()
					}
				})
			}
		}
	}
	var once sync.Once
	stop = func() *tally {
		once.Do(func() { close(end) })
		wg.Wait()
		return told
	}
	t.Cleanup(func() { stop() })
	return stop
}

// A restart in the middle of logins fails none of them, and leaves no client
// without an answer.
func TestRestart_Unnoticed(t *testing.T) {
	t.Parallel()
	r := newKeptRig(t, "")
	stop := r.load(t, 6)
	for range 5 {
		<-time.After(700 * time.Millisecond)
		begin := time.Now()
		r.usher.Signal(syscall.SIGTERM)
		if status := r.usher.Wait(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		took := time.Since(begin)
		r.usher.Restart(t)
		t.Logf("ended in %s, ready again after %s", took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	}
	<-time.After(500 * time.Millisecond)
	told := stop()
	t.Logf("logins over five restarts: %v", told)
	if len(told.counts) != 1 || told.counts["OK"] < 30 {
		t.Errorf("told %v, want only OK", told)
	}
}

// At kill -9 what was in flight may fail, once; what comes after is served.
func TestKill_OnlyWhatWasInFlight(t *testing.T) {
	t.Parallel()
	r := newKeptRig(t, "")
	const clients = 6
	stop := r.load(t, clients)
	const kills = 3
	for range kills {
		<-time.After(700 * time.Millisecond)
		r.usher.Kill()
		<-time.After(200 * time.Millisecond) // systemd's RestartSec
		r.usher.Restart(t)
	}
	<-time.After(500 * time.Millisecond)
	told := stop()
	t.Logf("logins over %d kills: %v", kills, told)
	failed := 0
	for what, n := range told.counts {
		if what != "OK" {
			failed += n
		}
	}
	if told.counts["OK"] < 30 || failed > kills*clients*2 {
		t.Errorf("told %v, want OK and at most %d failures", told, kills*clients*2)
	}
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			expectBackend(t, servers.Dial(t, protocol, f.addr[protocol]), user("two", 0), "127.0.0.2")
		}
	}
}

// Sessions keep their users' assignments alive through proxy-notify, also while
// usher is away: their lines wait for it in the FIFO, and no login process stands
// still.
func TestNotify_KeepsAssignment(t *testing.T) {
	t.Parallel()
	r := newKeptRig(t, "affinity: {expire: 4s}\n")
	long := servers.Dial(t, "imap", r.fronts[0].addr["imap"])
	expectBackend(t, long, user("two", 0), "127.0.0.2")
	short := servers.Dial(t, "imap", r.fronts[0].addr["imap"])
	expectBackend(t, short, user("three", 0), "127.0.0.2")
	short.Close()

	assigned := func(name string) string {
		out, errs, status := r.usher.Run(t, "status", name, "--json")
		if status != 0 {
			t.Fatalf("usher status %s: %s", name, errs)
		}
		_, rest, _ := strings.Cut(out, `"assigned": "`)
		host, _, _ := strings.Cut(rest, `"`)
		return host
	}
	<-time.After(7 * time.Second)
	if got := assigned(user("two", 0)); got != "127.0.0.2" {
		t.Errorf("of a session that goes on: assigned %q, want 127.0.0.2", got)
	}
	if got := assigned(user("three", 0)); got != "" {
		t.Errorf("of a session that ended: assigned %q, want none", got)
	}
	// The process that writes is not held up while nobody reads.
	r.usher.Kill()
	<-time.After(5 * time.Second)
	if got := long.Backend(); got != "127.0.0.2" {
		t.Errorf("the session is at %q", got)
	}
	r.usher.Restart(t)
	expectBackend(t, servers.Dial(t, "imap", r.fronts[0].addr["imap"]), user("two", 1), "127.0.0.2")
}
