package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"usher/proxy"
)

// A policy that fails on more than half of its last hundred requests is said to
// be failing: at once, once a minute, and not for each request.
func TestFailingPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs, to := logTo(zap.DebugLevel)
		obs := &observed{}
		d := newDirector(t, inFilter(`if request.client_id == "bad" then error("boom") end`), to, func(o *Options) { o.Observer = obs })
		ask := func(n int, bad bool) {
			for range n {
				q := query("alice")
				if bad {
					q.Request.ClientID = "bad"
				}
				_, err := d.Direct(t.Context(), q)
				if (err != nil) != bad {
					t.Fatal(err)
				}
				if f := (*proxy.PolicyFault)(nil); errors.As(err, &f) && f.Reported != d.filters[0].health.failing {
					t.Errorf("reported: %v", f.Reported)
				}
			}
		}
		warnings := func() []string {
			var out []string
			for _, e := range logs.TakeAll() {
				if e.Message != "policy" {
					out = append(out, e.Message)
				}
			}
			return out
		}
		ask(1000, false)
		ask(50, true) // half is not more than half
		if got := warnings(); got != nil || obs.failing != nil {
			t.Errorf("after 50 of 100: %q, %q", got, obs.failing)
		}
		ask(1, true)
		if diff := cmp.Diff([]string{"policy is failing"}, warnings()); diff != "" {
			t.Error(diff)
		}
		ask(500, true)
		if got := warnings(); got != nil {
			t.Errorf("within the minute: %q", got)
		}
		time.Sleep(time.Minute)
		ask(500, true)
		if diff := cmp.Diff([]string{"policy is failing"}, warnings()); diff != "" {
			t.Error(diff)
		}
		ask(49, false)
		time.Sleep(time.Minute)
		ask(1, true) // 51 of 100 still
		if diff := cmp.Diff([]string{"policy is failing"}, warnings()); diff != "" {
			t.Error(diff)
		}
		ask(2, false)
		if diff := cmp.Diff([]string{"policy is no longer failing"}, warnings()); diff != "" {
			t.Error(diff)
		}
		ask(300, false)
		if diff := cmp.Diff([]string{"test true", "test false"}, obs.failing); diff != "" {
			t.Error(diff)
		}
	})
}

// An operator's question and a caller who left say nothing about a policy.
func TestFailingPolicy_NotCounted(t *testing.T) {
	obs := &observed{}
	d := newDirector(t, inFilter(`error("boom")`), func(o *Options) { o.Observer = obs })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		q := query("alice")
		q.Trace = func(string) {}
		if _, err := d.Direct(t.Context(), q); err == nil {
			t.Fatal("no error")
		}
		if _, err := d.Direct(gone, query("alice")); err == nil {
			t.Fatal("no error")
		}
	}
	if obs.failing != nil {
		t.Errorf("failing: %q", obs.failing)
	}
}

// Each filter is judged by itself, and a budget that is used up counts.
func TestFailingPolicy_OfSeveral(t *testing.T) {
	obs := &observed{}
	d := newDirector(t, inFilter(``), func(o *Options) {
		o.Observer, o.Limits.Steps = obs, 1000
		o.Filters = append(o.Filters, Filter{Name: "second", Path: "second.lua", Text: inFilter(`while true do end`), WhenAuthenticated: true})
	})
	for range 60 {
		if _, err := d.Direct(t.Context(), query("alice")); err == nil {
			t.Fatal("no error")
		}
	}
	if diff := cmp.Diff([]string{"second true"}, obs.failing); diff != "" {
		t.Error(diff)
	}
	if obs.steps[0] != 1000 {
		t.Errorf("steps %v", obs.steps[0])
	}
}

// The probe request tells what a policy raises, and leaves nothing behind.
func TestProbe(t *testing.T) {
	const user = "usher-probe@example.org"
	for name, tt := range map[string]struct {
		text, want string
		change     func(*Options)
	}{
		"good":            {text: inFilter(`usher.select(usher.servers()[1])`)},
		"selects nothing": {text: inFilter(``)},
		"rejects":         {text: inFilter(`return true, 1`)},
		"raises":          {text: inFilter("\nerror('unknown user')"), want: "policy test: test.lua:2: unknown user (asked with a probe request, imap for " + user + ")"},
		"misspelt":        {text: inFilter("\nusher.selct(1)"), want: "policy test: test.lua:2: attempt to call selct, which usher has not; did you mean select? (asked with a probe request, imap for " + user + ")"},
		"loops":           {text: inFilter("\nwhile true do end"), want: "policy test: test.lua:2: budget of steps used up (director.steps: 200000) (asked with a probe request, imap for " + user + ")"},
		"a full name":     {text: inFilter(`local name, domain = request.username:match("^([^@]+)@([^@]+)$") return #name + #domain < 0`)},
		"all its fields":  {text: inFilter(`for k, v in pairs(request) do assert(v ~= nil) end assert(request.client_ip ~= "" and request.session ~= "")`)},
		"no password":     {text: inFilter(`assert(request.password == "")`)},
		"its password":    {text: inFilter(`assert(request.password ~= "")`), change: func(o *Options) { o.Filters[0].NeedsPassword = true }},
		"no network":      {text: inFilter(`local ok, err = nauthilus_backend.check_backend_connection("imap", "127.0.0.2", 143) assert(not ok and err:find("dry run"))`)},
		"after a refusal": {text: inFilter(`assert(not request.authenticated)`), change: func(o *Options) {
			o.Filters[0].WhenAuthenticated, o.Filters[0].WhenNoAuth, o.Filters[0].WhenUnauthenticated = false, false, true
		}},
		"look-ups": {text: inFilter(`assert(request.no_auth and request.authenticated)`), change: func(o *Options) { o.Filters[0].WhenAuthenticated = false }},
		"of its protocols": {text: inFilter(`assert(request.protocol == "lmtp" and #nauthilus_backend.get_backend_servers() == 1)`), change: func(o *Options) {
			o.Probe = proxy.NewView([]proxy.Entry{{Server: &proxy.Server{Protocol: "lmtp", Host: "127.0.0.9", Port: 24}, Health: proxy.Up}})
		}},
		"keeps nothing": {text: inFilter(`assert(nauthilus_cache.cache_get("probe") == nil) nauthilus_cache.cache_set("probe", 1) assert(nauthilus_cache.cache_get("probe") == 1)`)},
	} {
		t.Run(name, func(t *testing.T) {
			logs, to := logTo(zap.DebugLevel)
			obs := &observed{}
			loud := func(o *Options) {
				o.Filters[0].Text = strings.Replace(o.Filters[0].Text, "function", "print('loud') function", 1)
				o.Observer, o.Probe = obs, backends(2)
			}
			change := []func(*Options){to, loud}
			if tt.change != nil {
				change = append(change, tt.change)
			}
			d := newDirector(t, tt.text, change...)
			got := ""
			if err := d.Probed(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			if logs.Len() > 0 || obs.steps != nil || obs.failing != nil {
				t.Errorf("logged %s, counted %+v", logText(logs), obs)
			}
			if d.opt.Deps.Cache.Len() != 0 {
				t.Error("the probe left something in the cache")
			}
		})
	}
}
