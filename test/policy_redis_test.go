package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// startRedisRig runs usher with the filter that keeps users in Redis; redis is that
// section of its configuration. pool is what the init script registers as a Lua
// table, where the environment names a pool.
func startRedisRig(t *testing.T, redis, pool string) *rig {
	t.Helper()
	text, err := os.ReadFile(testdata(t, "sessions_in_redis_init.lua"))
	if err != nil {
		t.Fatal(err)
	}
	init := servers.WriteFile(t, strings.Replace(string(text), "OPTIONS", pool, 1), servers.Dir(t), "init.lua")
	return newRig(t, rigOptions{
		script: testdata(t, "sessions_in_redis.lua"), dovecot: true,
		budget: fmt.Sprintf("  network: true\n  timeout: 2s\n  init: [%q]\n  env: [CUSTOM_REDIS_POOL_NAME]\n", init),
		more:   "redis: " + redis + "\n",
	})
}

// home logs in everywhere at once and returns the one host where all got to.
func (r *rig) home(t *testing.T, name string) string {
	t.Helper()
	var clients []*servers.Client
	var logins []func()
	replies := make([]string, 4)
	for _, f := range r.fronts {
		for _, protocol := range []string{"imap", "pop3"} {
			c, i := servers.Dial(t, protocol, f.addr[protocol]), len(clients)
			clients = append(clients, c)
			logins = append(logins, func() { replies[i] = c.Login(name, password) })
		}
	}
	together(logins...)
	home := ""
	for i, c := range clients {
		if !c.OK(replies[i]) {
			t.Fatalf("%s: %s", name, replies[i])
		}
		got := c.Backend()
		c.Close()
		if home == "" {
			home = got
		}
		if got != home {
			t.Errorf("%s is logged in at %s and at %s", name, home, got)
		}
	}
	return home
}

// later logs in and must be told to try again, within the policy's time.
func (r *rig) later(t *testing.T, name string) {
	t.Helper()
	c := servers.Dial(t, "imap", r.standalone.Addr["imap"])
	began := time.Now()
	expect(t, "imap", c.Login(name, password), temporary)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("told after %s to try later", took)
	}
}

// served logs in until it works, and then everywhere.
func (r *rig) served(t *testing.T, name string, within time.Duration) string {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		c := servers.Dial(t, "imap", r.standalone.Addr["imap"])
		reply := c.Login(name, password)
		c.Close()
		if c.OK(reply) {
			return r.home(t, name)
		}
		expect(t, "imap", reply, temporary)
		if time.Now().After(deadline) {
			t.Fatalf("%s after it is back: %s", within, reply)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// A filter in Nauthilus' manner keeps its users in Redis, whatever becomes of that.
func TestPolicy_Redis(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	r := startRedisRig(t, fmt.Sprintf("{addresses: [%q], prefix: \"nt:\"}", redis.Addr), "{}")

	homes := map[string]string{}
	t.Run("Together", func(t *testing.T) {
		used := map[string]bool{}
		for _, order := range []string{"two", "three"} {
			for n := range 6 {
				name := user(order, n)
				homes[name] = r.home(t, name) // four that race
				if again := r.home(t, name); again != homes[name] {
					t.Errorf("%s was at %s, then at %s", name, homes[name], again)
				}
				used[homes[name]] = true
			}
		}
		if len(used) != len(hosts) {
			t.Errorf("all are at %v", used)
		}
	})
	t.Run("WrongPassword", func(t *testing.T) {
		c := servers.Dial(t, "imap", r.standalone.Addr["imap"])
		expect(t, "imap", c.Login(user("two", 7), "wrong"), wrongPassword)
	})
	t.Run("Kept", func(t *testing.T) {
		if got := redis.Ask(t, "HLEN", "nt:DS:"+user("two", 0)); got != ":8" {
			t.Errorf("%s sessions are kept, want 8", got)
		}
	})
	t.Run("ScriptFlush", func(t *testing.T) {
		if got := redis.Ask(t, "SCRIPT", "FLUSH"); got != "+OK" {
			t.Fatal(got)
		}
		if got := r.home(t, user("two", 0)); got != homes[user("two", 0)] {
			t.Errorf("at %s, before at %s", got, homes[user("two", 0)])
		}
	})
	t.Run("Frozen", func(t *testing.T) {
		redis.Freeze(t)
		var logins []func()
		for n := range 8 {
			logins = append(logins, func() { r.later(t, user("two", n)) })
		}
		together(logins...)
		c := servers.Dial(t, "imap", r.standalone.Addr["imap"])
		expect(t, "imap", c.Login(user("two", 7), "wrong"), wrongPassword)
		redis.Thaw()
		if got := r.served(t, user("two", 0), 10*time.Second); got != homes[user("two", 0)] {
			t.Errorf("at %s, before at %s", got, homes[user("two", 0)])
		}
	})
	t.Run("Away", func(t *testing.T) {
		redis.Kill()
		for n := range 4 {
			r.later(t, user("three", n))
		}
		redis.Start(t) // and has forgotten all, its script too
		r.served(t, user("three", 0), 10*time.Second)
	})
	t.Run("Metrics", func(t *testing.T) {
		if text := r.usher.Get(t, "/metrics"); !strings.Contains(text, `usher_policy_network_seconds_count{module="redis"}`) {
			t.Error("usher_policy_network_seconds is missing")
		}
	})
}

// The replica takes over, with what is kept.
func TestPolicy_RedisSentinel(t *testing.T) {
	t.Parallel()
	s := servers.StartRedisSentinel(t)
	r := startRedisRig(t, fmt.Sprintf("{addresses: [%q, %q, %q], sentinel_master: usher}", s.Addrs[0], s.Addrs[1], s.Addrs[2]), "{}")
	name := user("two", 0)
	home := r.home(t, name)
	s.Master.Kill()
	// A few seconds; but a Sentinel that a busy machine held up does nothing for half a
	// minute (TILT).
	if got := r.served(t, name, time.Minute); got != home {
		t.Errorf("at %s, before at %s", got, home)
	}
}

func TestPolicy_RedisCluster(t *testing.T) {
	t.Parallel()
	nodes := servers.StartRedisCluster(t)
	r := startRedisRig(t, fmt.Sprintf("{addresses: [%q, %q, %q]}", nodes[0].Addr, nodes[1].Addr, nodes[2].Addr), "{}")
	for _, order := range []string{"two", "three", "none"} {
		for n := range 8 {
			r.home(t, user(order, n))
		}
	}
	for _, n := range nodes {
		if got := n.Ask(t, "DBSIZE"); got == ":0" {
			t.Errorf("%s holds nothing", n.Addr)
		}
	}
}

// By TLS, as a user with a password; the configuration has none of it, but a pool
// that the environment names.
func TestPolicy_RedisPool(t *testing.T) {
	t.Setenv("CUSTOM_REDIS_POOL_NAME", "sessions")
	redis := servers.StartRedis(t, servers.RedisOptions{Unix: true, More: "user default off\nuser usher on >hunter2hunter2 ~* &* +@all\n"})
	r := startRedisRig(t, "{}", fmt.Sprintf("{address = %q, username = 'usher', password = 'hunter2hunter2', db = 2}", redis.Addr))
	name := user("two", 0)
	if first, again := r.home(t, name), r.home(t, name); first != again {
		t.Errorf("was at %s, then at %s", first, again)
	}
}

func TestPolicy_RedisTLS(t *testing.T) {
	t.Parallel()
	cert := servers.NewCertificate(t, "127.0.0.1")
	redis := servers.StartRedis(t, servers.RedisOptions{TLS: cert, More: "requirepass hunter2hunter2\n"})
	r := startRedisRig(t, fmt.Sprintf("{addresses: [%q], password: hunter2hunter2, tls: true, ca: %q, cert: %q, key: %q}", redis.Addr, cert.CertFile, cert.CertFile, cert.KeyFile), "{}")
	name := user("two", 0)
	if first, again := r.home(t, name), r.home(t, name); first != again {
		t.Errorf("was at %s, then at %s", first, again)
	}
	for _, line := range r.usher.Log.Lines(0) {
		if strings.Contains(line, "hunter2") {
			t.Errorf("a password is in the log: %s", line)
		}
	}
}
