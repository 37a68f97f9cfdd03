package luabridge

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"usher/luabridge/modules"
	"usher/proxy"
)

// startLocalRedis runs redis-server or valkey-server on a unix socket, or skips.
func startLocalRedis(b *testing.B) (address string) {
	b.Helper()
	program := ""
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil && program == "" {
			program = path
		}
	}
	if program == "" {
		b.Skip("neither redis-server nor valkey-server is here")
	}
	path := b.TempDir() + "/redis.sock"
	cmd := exec.Command(program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", b.TempDir())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
			return "unix:" + path
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

// One HGET a request, of many requests at once, with a local Redis.
func BenchmarkRedisHGet(b *testing.B) {
	r, err := modules.NewRedis(modules.RedisOptions{Addresses: []string{startLocalRedis(b)}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	d := newDirector(b, inFilter(`
		local host, err = nauthilus_redis.redis_hget("default", "users", request.account)
		if err ~= "redis: nil" then nauthilus_util.if_error_raise(err) end
		if not host then nauthilus_redis.redis_hset("default", "users", request.account, "127.0.0.2") end`),
		func(o *Options) { o.Deps.Redis, o.Deps.Network, o.PoolSize = r, true, 64 })
	run := func(q *proxy.Query) {
		if _, err := d.Direct(b.Context(), q); err != nil {
			b.Error(err)
		}
	}
	b.Run("parallel=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			run(query("alice"))
		}
	})
	b.Run("parallel=32", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				run(query("alice"))
			}
		})
	})
}
