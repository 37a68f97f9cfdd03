package test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/test/servers"
)

// nodeHosts are the backends behind the ushers of a nodes rig.
var nodeHosts = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}

// nodes are three ushers that share a Redis. nginx' requests come at each.
type nodes struct {
	redis    *servers.Redis
	gate     *servers.Gate // between the last and the Redis
	ushers   [3]*servers.Usher
	auth     [3]string // URLs
	client   http.Client
	port     int
	yaml     [3]string
	backends map[string]net.Listener
	dead     atomic.Bool // node 0 is: logins there fail
}

// startNodes runs them.
func startNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{redis: servers.StartRedis(t, servers.RedisOptions{}), backends: map[string]net.Listener{}}
	n.redis.Ask(t, "SET", "usher:{s}id", "used") // for long: nobody has anything to tell
	n.client = http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	t.Cleanup(n.client.CloseIdleConnections)
	n.port = servers.Port(t, nodeHosts...)
	inventory := ""
	for _, host := range nodeHosts {
		n.serve(t, host)
		inventory += fmt.Sprintf("    - {protocol: imap, host: %s, port: %d}\n", host, n.port)
	}
	n.gate = servers.StartGate(t, "127.0.0.1", n.redis.Addr, nil)
	for i := range n.ushers {
		store := n.redis.Addr
		if i == 2 {
			store = n.gate.Addr
		}
		addr := servers.Addr(t, fmt.Sprintf("127.0.0.%d", 11+i))
		n.auth[i] = "http://" + addr + "/auth"
		n.yaml[i] = fmt.Sprintf(`node: %c
nginx: {listeners: [{address: %q, insecure: true}]}
redis: {addresses: [%q]}
affinity: {store: valkey, expire: 5m, kick_delay: 0s}
backend_server_monitoring:
  interval: 500ms
  retry: 200ms
  fall: 1
  panic_threshold: 100
  backend_servers:
%s`, 'a'+i, addr, store, inventory)
	}
	together(func() { n.ushers[0] = servers.StartUsher(t, n.yaml[0]) }, func() { n.ushers[1] = servers.StartUsher(t, n.yaml[1]) }, func() { n.ushers[2] = servers.StartUsher(t, n.yaml[2]) })
	n.eventually(t, "all nodes see each other", func() bool {
		for i := range n.ushers {
			if out := n.run(t, i, 0, "nodes"); strings.Count(out, " ready ") != 3 {
				return false
			}
		}
		return true
	})
	return n
}

// serve has a backend take connections, until stopBackend or the test's end.
func (n *nodes) serve(t *testing.T, host string) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(n.port)))
	if err != nil {
		t.Fatal(err)
	}
	n.backends[host] = ln
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = ln.Close(); done.Wait() })
}

// login asks node i as nginx does. It returns the host, "" where the user is told to
// try later.
func (n *nodes) login(t *testing.T, i int, user string) (host string) {
	req, err := http.NewRequest("GET", n.auth[i], nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	for k, v := range map[string]string{
		"Auth-Method": "plain", "Auth-User": user, "Auth-Pass": password, "Auth-Protocol": "imap", "Auth-Login-Attempt": "1", "Client-IP": "192.0.2.9",
	} {
		req.Header.Set(k, v)
	}
	resp, err := n.client.Do(req)
	if err != nil && i == 0 && n.dead.Load() {
		return ""
	}
	if err != nil {
		t.Errorf("login of %s at node %d: %v", user, i, err)
		return ""
	}
	defer resp.Body.Close()
	switch status := resp.Header.Get("Auth-Status"); {
	case status == "OK":
		return resp.Header.Get("Auth-Server")
	case strings.Contains(strings.ToLower(status), "credential"), strings.Contains(status, "password"):
		t.Errorf("login of %s at node %d: %q", user, i, status)
	}
	return ""
}

// everywhere logs a user in at each node and returns the hosts, "" as login does.
func (n *nodes) everywhere(t *testing.T, user string) [3]string {
	t.Helper()
	var hosts [3]string
	together(func() { hosts[0] = n.login(t, 0, user) }, func() { hosts[1] = n.login(t, 1, user) }, func() { hosts[2] = n.login(t, 2, user) })
	return hosts
}

// oneHost is everywhere for a user who must be on one host, which it returns. A node
// may tell him to try later for a while, on a busy machine; to another host it must
// not take him.
func (n *nodes) oneHost(t *testing.T, user string) string {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		hosts := n.everywhere(t, user)
		host, all := "", true
		for _, h := range hosts {
			switch {
			case h == "":
				all = false
			case host != "" && h != host:
				t.Errorf("%s is on %q", user, hosts)
				return host
			default:
				host = h
			}
		}
		if all {
			return host
		}
		if time.Now().After(end) {
			t.Errorf("%s is on %q", user, hosts)
			return host
		}
	}
}

// refused logs a user in at each node, who must be told to try later.
func (n *nodes) refused(t *testing.T, user string) {
	t.Helper()
	if hosts := n.everywhere(t, user); hosts != [3]string{} {
		t.Errorf("%s is taken to %q; want him told to try later", user, hosts)
	}
}

// run runs a command at node i, which must end with that status, and returns what it
// says.
func (n *nodes) run(t *testing.T, i, want int, args ...string) string {
	t.Helper()
	out, errs, status := n.ushers[i].Run(t, args...)
	if status != want {
		t.Errorf("usher %s at node %d: exit status %d, want %d: %s", strings.Join(args, " "), i, status, want, errs)
	}
	return out + errs
}

// logs are the lengths of the nodes' logs.
func (n *nodes) logs() (from [3]int) {
	for i, u := range n.ushers {
		from[i] = u.Log.Len()
	}
	return from
}

// says waits until all nodes say of the store that it is away, or here.
func (n *nodes) says(t *testing.T, from [3]int, state string) {
	t.Helper()
	for i, u := range n.ushers {
		u.Logged(t, from[i], "that the store is "+state, func(line string) bool {
			return strings.Contains(line, `"shared store"`) && strings.Contains(line, `"`+state+`"`)
		})
	}
}

// kill ends the store and waits until all nodes know.
func (n *nodes) kill(t *testing.T) {
	t.Helper()
	from := n.logs()
	n.redis.Kill()
	n.says(t, from, "away")
}

// revive starts it again, empty, and waits until all nodes are back.
func (n *nodes) revive(t *testing.T) {
	t.Helper()
	from := n.logs()
	n.redis.Start(t)
	n.says(t, from, "here")
}

func (*nodes) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// other is a host that is not this one.
func (*nodes) other(host string) string {
	if host == nodeHosts[0] {
		return nodeHosts[1]
	}
	return nodeHosts[0]
}
