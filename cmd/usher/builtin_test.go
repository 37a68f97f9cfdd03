package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"

	"usher/luabridge"
	"usher/luabridge/budget"
	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/scripts"
)

// The built-in policy in Go says what scripts/director.lua says, which operators
// read and begin their own with.
func TestBuiltinIsTheScript(t *testing.T) {
	lua, err := luabridge.New(luabridge.Options{
		Filters: []luabridge.Filter{{
			Name: "director", Path: "scripts/director.lua", Text: scripts.Director, WhenAuthenticated: true, WhenNoAuth: true,
		}},
		PoolSize: 1, Limits: budget.Limits{Steps: 1e6, Memory: 64 << 20, Time: time.Minute},
		Deps: &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore()},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	protocols := []string{"imap", "pop3", "sieve", "lmtp", "smtp", "doveadm"}
	outcomes := map[string]int{}
	for n := range 3000 {
		var entries []proxy.Entry
		for h := range r.IntN(6) {
			s := proxy.Server{Host: fmt.Sprintf("192.0.2.%d", h+1), Weight: 100 * r.IntN(3), TLS: r.IntN(5) == 0}
			if r.IntN(4) == 0 {
				s.Tags = []string{[]string{"ssd", "hdd"}[r.IntN(2)]}
			}
			admin := proxy.Admin(max(0, r.IntN(8)-5))
			for port, p := range protocols[:5] {
				if r.IntN(4) == 0 {
					continue
				}
				e := s
				e.Protocol, e.Port = p, 1000+port
				entries = append(entries, proxy.Entry{Server: &e, Health: proxy.Health(max(1, r.IntN(12)-8)), Admin: admin})
			}
		}
		q := &proxy.Query{
			Request: &proxy.Request{Protocol: protocols[r.IntN(len(protocols))], AddressOnly: r.IntN(3) == 0, NoAuth: r.IntN(3) == 0},
			User:    fmt.Sprintf("u%d", n), Authenticated: r.IntN(8) > 0, Key: affinity.Key{Name: fmt.Sprintf("u%d", n)},
			View: proxy.NewView(entries),
		}
		q.Request.Service = q.Request.Protocol
		if r.IntN(2) == 0 {
			q.Assigned = fmt.Sprintf("192.0.2.%d", r.IntN(7))
		}
		if r.IntN(2) == 0 {
			q.Key.Tag = []string{"", "ssd", "none"}[r.IntN(3)]
			q.Request.Upstream = &proxy.Upstream{User: q.User, Tag: q.Key.Tag}
		}
		var steps []string
		q.Trace = func(s string) { steps = append(steps, s) }
		want, err := lua.Direct(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		// Of the calls that led there the script tells more.
		wantSteps := slices.DeleteFunc(steps, func(s string) bool { return !strings.Contains(s, ": select ") })
		steps = nil
		got, err := proxy.Builtin{}.Direct(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%d: %+v, assigned %q (-Lua +Go):\n%s", n, *q.Request, q.Assigned, diff)
		}
		if diff := cmp.Diff(wantSteps, steps, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("what it tells (-Lua +Go):\n%s", diff)
		}
		outcomes[string(got.Reason)]++
	}
	if outcomes["sticky"] < 100 || outcomes["hash"] < 100 || outcomes[""] < 100 {
		t.Errorf("decisions %v: too few of a kind", outcomes)
	}
}
