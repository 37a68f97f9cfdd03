package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func feature(name, body string) Script {
	return Script{Name: name, Path: name + ".lua", Text: "function nauthilus_call_feature(request) " + body + "\nend"}
}

func TestFeatures(t *testing.T) {
	b := "local b = nauthilus_builtin "
	note := func(name string) Script {
		return feature(name, `nauthilus_builtin.custom_log_add("ran", "`+name+`") return false, false, 0`)
	}
	for _, test := range []struct {
		name     string
		features []Script
		want     proxy.Verdict
	}{
		{"none triggers", []Script{note("one"), note("two")},
			proxy.Verdict{Logs: []proxy.Attr{{Name: "ran", Value: "one"}, {Name: "ran", Value: "two"}}}},
		{"nothing is returned", []Script{feature("one", ``), note("two")},
			proxy.Verdict{Logs: []proxy.Attr{{Name: "ran", Value: "two"}}}},
		{"one triggers, the rest is not asked", []Script{note("one"), feature("two", b+`b.status_message_set("Go away") return b.FEATURE_TRIGGER_YES, b.FEATURES_ABORT_NO, 0`), note("three")},
			proxy.Verdict{Refused: true, By: "policy:two", Text: "Go away", Logs: []proxy.Attr{{Name: "ran", Value: "one"}}}},
		{"the number 0 is true", []Script{feature("one", `return 0`)},
			proxy.Verdict{Refused: true, By: "policy:one"}},
		{"the rest is skipped", []Script{feature("one", b+`return b.FEATURE_TRIGGER_NO, b.FEATURES_ABORT_YES, 0`), note("two")},
			proxy.Verdict{}},
		{"a result that is not OK is noted", []Script{feature("one", b+`return false, false, b.FEATURE_RESULT_FAIL`)},
			proxy.Verdict{Failed: true}},
		{"it routes nobody", []Script{feature("one", `nauthilus_backend.select_backend_server("127.0.0.9", 143)`)},
			proxy.Verdict{}},
		{"it sees a request that nobody let in", []Script{feature("one", `
			return request.authenticated or request.user_found or request.password ~= "" or request.username ~= "alice" or request.http_status ~= 403`)},
			proxy.Verdict{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDirector(t, inFilter(""), func(o *Options) { o.Features = test.features })
			q := query("alice")
			q.Authenticated = false
			v, err := d.Before(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Port, v.Port = 0, 0
			if diff := cmp.Diff(test.want, v, cmp.FilterPath(func(p cmp.Path) bool {
				return p.Last().String() == ".Host" || p.Last().String() == ".Reason" || p.Last().String() == ".By" && !test.want.Refused
			}, cmp.Ignore())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What features say in nauthilus_context, and add to the log line, filters find
// again; the next request does not.
func TestFeatures_Notes(t *testing.T) {
	d := newDirector(t, inFilter(`
		local seen = nauthilus_context.context_get("seen")
		nauthilus_builtin.custom_log_add("filter", seen and seen[1] or "nothing")`),
		func(o *Options) {
			o.Features = []Script{feature("one", `
				nauthilus_context.context_set("seen", {request.username})
				nauthilus_builtin.custom_log_add("feature", "ran")
				nauthilus_builtin.status_message_set("from the feature")`)}
		})
	q := query("alice")
	if _, err := d.Before(context.Background(), q); err != nil {
		t.Fatal(err)
	}
	v := direct(t, d, q)
	if diff := cmp.Diff([]proxy.Attr{{Name: "feature", Value: "ran"}, {Name: "filter", Value: "alice"}}, v.Logs); diff != "" {
		t.Error(diff)
	}
	if v.Text != "from the feature" {
		t.Errorf("text %q: the first script's stays", v.Text)
	}
	if v := direct(t, d, query("bob")); v.Logs[0].Value != "nothing" {
		t.Errorf("another request sees %+v", v.Logs)
	}
}

func TestFeatures_Fault(t *testing.T) {
	d := newDirector(t, inFilter(""), func(o *Options) { o.Features = []Script{feature("one", `error("boom")`)} })
	if err := d.Probed(); err == nil || !strings.Contains(err.Error(), "policy one: one.lua:1: boom") {
		t.Errorf("probed: %v", err)
	}
	_, err := d.Before(context.Background(), query("alice"))
	var fault *proxy.PolicyFault
	if !errors.As(err, &fault) || fault.Kind != proxy.PolicyError || !strings.Contains(err.Error(), "policy one: one.lua:1: boom") {
		t.Errorf("error %v", err)
	}
	if _, err := New(Options{
		Filters: d.opt.Filters, Deps: d.opt.Deps, Limits: d.opt.Limits,
		Features: []Script{{Name: "f", Path: "f.lua", Text: "function nauthilus_call_filter() end"}},
		Init:     []Script{{Name: "i", Path: "i.lua", Text: "x ="}},
	}); err == nil || !strings.Contains(err.Error(), "f.lua: defines no function nauthilus_call_feature\n") || !strings.Contains(err.Error(), "i.lua:") {
		t.Errorf("error %v", err)
	}
}

func TestInit(t *testing.T) {
	hook := func(body string) Script {
		return Script{Name: "init", Path: "init.lua", Text: "function nauthilus_run_hook(request) " + body + "\nend"}
	}
	d := newDirector(t, inFilter(`nauthilus_builtin.custom_log_add("runs", nauthilus_cache.cache_get("runs") or 0)`), func(o *Options) {
		o.Init = []Script{
			hook(`nauthilus_cache.cache_set("runs", (nauthilus_cache.cache_get("runs") or 0) + 1)`),
			hook(`if nauthilus_cache.cache_get("runs") == 1 then error("no such pool") end`),
			hook(`for i = 1, 300000 do end
				assert(request.username == "" and type(request.logging) == "table")
				nauthilus_cache.cache_set("runs", nauthilus_cache.cache_get("runs") + 1)`),
		}
	})
	if v := direct(t, d, query("alice")); v.Logs[0].Value != "0" {
		t.Errorf("it ran before it was told to: %+v", v.Logs)
	}
	begin := time.Now()
	if err := d.RunInit(context.Background()); err == nil || err.Error() != "policy init: init.lua:1: no such pool" {
		t.Errorf("error %v", err)
	}
	if v := direct(t, d, query("alice")); v.Logs[0].Value != "2" {
		t.Errorf("after %s: %+v", time.Since(begin), v.Logs)
	}
	// Again, only the one that failed runs.
	if err := d.RunInit(context.Background()); err != nil {
		t.Errorf("again: %v", err)
	}
	if v := direct(t, d, query("alice")); v.Logs[0].Value != "2" {
		t.Errorf("again: %+v", v.Logs)
	}
}

// An init script that registered its pools and failed then, since Redis was away,
// gets on when it is run again.
func TestInit_PoolsAgain(t *testing.T) {
	m, redis := withMini(t)
	m.SetError("LOADING")
	d := newDirector(t, inFilter(""), redis, func(o *Options) {
		o.Init = []Script{{Name: "init", Path: "init.lua", Text: `function nauthilus_run_hook()
			assert(nauthilus_redis.register_redis_pool("other", "standalone", {address = "192.0.2.1:6379", password = "p"}))
			assert(not nauthilus_redis.register_redis_pool("other", "standalone", {address = "192.0.2.1:6379", password = "p"}), "twice")
			assert(not nauthilus_redis.register_redis_pool("other", "standalone", {address = "192.0.2.2:6379"}), "another")
			assert(nauthilus_redis.redis_upload_script("default", "return 1", "one"))
		end`}}
	})
	if err := d.RunInit(t.Context()); err == nil || !strings.Contains(err.Error(), "LOADING") {
		t.Errorf("while Redis is away: %v", err)
	}
	m.SetError("")
	if err := d.RunInit(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}
