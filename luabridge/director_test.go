package luabridge

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/scripts"
)

type noChecker struct{}

func (noChecker) CheckConnection(context.Context, *proxy.Server) error { return nil }

func newDirector(t testing.TB, text string, change ...func(*Options)) *Director {
	t.Helper()
	opt := Options{
		Filters: []Filter{{Name: "test", Path: "test.lua", Text: text, WhenAuthenticated: true, WhenNoAuth: true}},
		Deps:    &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore(), Checker: noChecker{}, LogLevel: "info", LogFormat: "json", RedisPrefix: "usher:"},
		Limits:  budget.Limits{Steps: 200000, Memory: 16 << 20, Time: 2 * time.Second}, PoolSize: 1,
	}
	for _, f := range change {
		f(&opt)
	}
	d, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func backends(n int) *proxy.View {
	var es []proxy.Entry
	for i := range n {
		for _, p := range []struct {
			proto string
			port  int
		}{{"imap", 143}, {"pop3", 110}} {
			host := fmt.Sprintf("127.0.0.%d", i+2)
			es = append(es, proxy.Entry{
				Server: &proxy.Server{Protocol: p.proto, Host: host, Port: p.port, Weight: 100},
				Health: proxy.Up, Addr: netip.MustParseAddr(host),
			})
		}
	}
	return proxy.NewView(es)
}

func query(user string) *proxy.Query {
	return &proxy.Query{
		Request: &proxy.Request{
			Adapter: "dovecot", Service: "imap", Protocol: "imap", Method: "plain", User: user,
			Password: proxy.NewSecret("s3cret"),
			Client:   netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("198.51.100.1:143"),
		},
		User: user, Authenticated: true, ID: "01TEST", Key: affinity.Key{Name: user}, View: backends(8),
	}
}

func direct(t testing.TB, d *Director, q *proxy.Query) proxy.Verdict {
	t.Helper()
	v, err := d.Direct(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBuiltinPolicy(t *testing.T) {
	d := newDirector(t, scripts.Director)
	v := direct(t, d, query("alice@example.org"))
	if !v.Selected || v.Reason != proxy.Hashed {
		t.Fatalf("verdict: %+v", v)
	}
	q := query("alice@example.org")
	q.Request.Protocol = "pop3"
	if w := direct(t, d, q); w.Host != v.Host {
		t.Errorf("imap goes to %s, pop3 to %s", v.Host, w.Host)
	}
	q = query("alice@example.org")
	q.Assigned = "127.0.0.5"
	if w := direct(t, d, q); w.Host != "127.0.0.5" || w.Reason != proxy.Sticky {
		t.Errorf("assigned to 127.0.0.5, went to %s (%s)", w.Host, w.Reason)
	}
}

// While a user's host is up, its sieve being down sends nobody elsewhere.
func TestBuiltinPolicy_Ailing(t *testing.T) {
	d := newDirector(t, scripts.Director)
	var es []proxy.Entry
	for i, h := range []proxy.Health{proxy.Down, proxy.Up} {
		host := fmt.Sprintf("127.0.0.%d", i+2)
		for _, p := range []string{"imap", "sieve"} {
			e := proxy.Entry{Server: &proxy.Server{Protocol: p, Host: host, Port: 1000 + i, Weight: 100}, Health: proxy.Up, Addr: netip.MustParseAddr(host)}
			if p == "sieve" {
				e.Health = h
			}
			es = append(es, e)
		}
	}
	q := query("alice@example.org")
	q.View, q.Assigned = proxy.NewView(es), "127.0.0.2"
	q.Request.Service, q.Request.Protocol = "sieve", "sieve"
	if v := direct(t, d, q); v.Host != "127.0.0.2" {
		t.Errorf("went to %s", v.Host)
	}
}

const typical = `
local backend = require("nauthilus_backend")
function nauthilus_call_filter(request)
  if not request.authenticated then return nauthilus_builtin.FILTER_ACCEPT, 0 end
  local key = request.account .. request.service .. request.client_ip .. request.session
  local proto = request.protocol
  local candidates, n = {}, 0
  for _, s in ipairs(backend.get_backend_servers()) do
    if s.protocol == proto then n = n + 1; candidates[n] = s end
  end
  local h = 0
  for i = 1, #key do h = (h * 31 + key:byte(i)) % 4294967296 end
  local s = candidates[h % n + 1]
  backend.select_backend_server(s.host, s.port)
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end`

func TestFaultsNameFileAndLine(t *testing.T) {
	for name, text := range map[string]string{
		"syntax": "function nauthilus_call_filter(request)\n  return )\nend",
		"chunk":  "\nerror('boom')",
		"module": "\nrequire('nauthilus_nothing')",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Options{
				Filters: []Filter{{Name: "x", Path: "/etc/usher/x.lua", Text: text}},
				Deps:    &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore()}, Limits: budget.Limits{Steps: 1000, Memory: 1 << 20, Time: time.Second},
			})
			if err == nil || !strings.Contains(err.Error(), "/etc/usher/x.lua") || !strings.Contains(err.Error(), "2") {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// A file that never ends is none.
func TestReadScript_NotRegular(t *testing.T) {
	for _, path := range []string{"/dev/zero", t.TempDir()} {
		if _, err := ReadScript(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
