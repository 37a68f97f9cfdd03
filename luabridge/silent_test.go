package luabridge

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/luabridge/modules"
)

// A freezer stands before a server, and while it is frozen nobody hears anything
// of that, as of a process that is stopped: connections are made all the same.
type freezer struct {
	ln     net.Listener
	frozen atomic.Bool
	all    sync.WaitGroup
}

func newFreezer(t testing.TB, target string) *freezer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{ln: ln}
	var mu sync.Mutex
	var open []net.Conn
	f.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c, to)
			mu.Unlock()
			f.all.Go(func() { _, _ = io.Copy(to, c); to.Close() })
			f.all.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					n, err := to.Read(buf)
					if err != nil {
						return
					}
					for f.frozen.Load() {
						time.Sleep(time.Millisecond)
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		f.frozen.Store(false)
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		f.all.Wait()
	})
	return f
}

// While a Redis or a web server is silent, logins that do not need it go on.
func TestSilentServer_OthersGoOn(t *testing.T) {
	m, _ := withMini(t)
	redis := newFreezer(t, m.Addr())
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(web.Close)
	page := newFreezer(t, web.Listener.Addr().String())
	for _, test := range []struct {
		name, call string
		f          *freezer
		reach      func(*Options)
	}{
		{"redis", `nauthilus_redis.redis_set("default", "k", "v")`, redis, withRedis(t, modules.RedisOptions{Addresses: []string{redis.ln.Addr().String()}})},
		{"http", fmt.Sprintf(`require("glua_http").get("http://%s/")`, page.ln.Addr()), page, withHTTP(t)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testSilence(t, test.f, test.call, test.reach)
		})
	}
}

func testSilence(t *testing.T, f *freezer, call string, reach func(*Options)) {
	d := newDirector(t, inFilter(`
		if request.username == "needs" then
			local v, err = `+call+`
			if not v then error(err) end
		end`), reach, func(o *Options) {
		o.PoolSize, o.Limits.Time = 8, 600*time.Millisecond
	})
	direct(t, d, query("needs"))
	f.frozen.Store(true)
	var all sync.WaitGroup
	var failed, slowest atomic.Int64
	began := time.Now()
	for time.Since(began) < 2*time.Second {
		all.Go(func() { _, _ = d.Direct(t.Context(), query("needs")) })
		all.Go(func() {
			asked := time.Now()
			if _, err := d.Direct(t.Context(), query("other")); err != nil {
				failed.Add(1)
			}
			if took := int64(time.Since(asked)); asked.Sub(began) > time.Second && took > slowest.Load() {
				slowest.Store(took)
			}
		})
		time.Sleep(5 * time.Millisecond)
	}
	all.Wait()
	if failed.Load() > 0 || slowest.Load() > int64(200*time.Millisecond) {
		t.Errorf("%d failed; once the server was known to be silent the slowest took %v", failed.Load(), time.Duration(slowest.Load()))
	}
	f.frozen.Store(false)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := d.Direct(t.Context(), query("needs")); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
