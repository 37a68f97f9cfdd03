package luabridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/luabridge/modules"
	"usher/proxy"
)

func TestReturnValues(t *testing.T) {
	for values, refused := range map[string]bool{
		"":       false,
		"nil":    false,
		"false":  false,
		"nil, 0": false,
		"nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK": false,
		"false, 1": false,
		"nauthilus_builtin.FILTER_REJECT, nauthilus_builtin.FILTER_RESULT_OK": true,
		"true":        true,
		"true, 1, 2":  true,
		"0":           true,
		"1":           true,
		"'false'":     true,
		"''":          true,
		"{}":          true,
		"print":       true,
		"0/0":         true,
		"true, 'odd'": true,
	} {
		t.Run(values, func(t *testing.T) {
			v := ask(t, `nauthilus_backend.select_backend_server("a", 1) return `+values, query("alice"))
			if v.Refused != refused || v.Selected == refused {
				t.Errorf("verdict: %+v", v)
			}
		})
	}
}

func TestResultFailIsOnlyLogged(t *testing.T) {
	for values, logged := range map[string]int{"false, nauthilus_builtin.FILTER_RESULT_FAIL": 1, "false, 0": 0, "false": 0, "false, 'x'": 0} {
		logs, to := logTo(zap.InfoLevel)
		if v := ask(t, "return "+values, query("alice"), to); v.Refused {
			t.Errorf("%s: %+v", values, v)
		}
		if n := logs.FilterMessage("policy result: fail").FilterField(zap.String("script", "test")).FilterField(zap.String("id", "01TEST")).Len(); n != logged {
			t.Errorf("%s: logged %d times", values, n)
		}
	}
}

func TestSeveralFilters(t *testing.T) {
	const a, b = `nauthilus_backend.select_backend_server("a", 1) `, `nauthilus_backend.select_backend_server("b", 2) `
	attr := func(value string) string {
		return `local r = nauthilus_backend_result.new() r:attributes({x = "` + value + `"}) nauthilus_backend.apply_backend_result(r) `
	}
	selected := func(host string, port int, by string) proxy.Verdict {
		return proxy.Verdict{Selected: true, Host: host, Port: port, Reason: proxy.Selected, By: by}
	}
	refused := func(by, text string) proxy.Verdict { return proxy.Verdict{Refused: true, Text: text, By: by} }
	set := func(name, value string) []proxy.Change {
		return []proxy.Change{{Attr: proxy.Attr{Name: name, Value: value}}}
	}
	for name, tt := range map[string]struct {
		bodies []string
		want   proxy.Verdict
	}{
		"the last selection":            {[]string{a, b, ``}, selected("b", 2, "policy:two")},
		"the same again":                {[]string{a, ``, a}, selected("a", 1, "policy:three")},
		"any reject, first":             {[]string{`return true`, b}, refused("policy:one", "")},
		"any reject, middle":            {[]string{a, `return true`, b}, refused("policy:two", "")},
		"any reject, last":              {[]string{a, b, `return true`}, refused("policy:three", "")},
		"two rejects":                   {[]string{`return true`, `return true`, ``}, refused("policy:one", "")},
		"usher.deny, then accept":       {[]string{`usher.deny("no") return false`, b}, refused("policy:one", "no")},
		"the first text":                {[]string{`nauthilus_builtin.status_message_set("1")`, `nauthilus_builtin.status_message_set("2") return true`}, refused("policy:two", "1")},
		"the last text of the first":    {[]string{`nauthilus_builtin.status_message_set("1") nauthilus_builtin.status_message_set("2")`, `return true`}, refused("policy:two", "2")},
		"attributes: the later":         {[]string{attr("1"), attr("2")}, proxy.Verdict{Changes: set("x", "2")}},
		"attributes: applied, removed":  {[]string{attr("1"), `nauthilus_backend.remove_from_backend_result({"x"})`}, proxy.Verdict{Changes: []proxy.Change{{Attr: proxy.Attr{Name: "x"}, Remove: true}}}},
		"attributes: removed, applied":  {[]string{`nauthilus_backend.remove_from_backend_result({"x"})`, attr("1")}, proxy.Verdict{Changes: set("x", "1")}},
		"log fields of all":             {[]string{`nauthilus_builtin.custom_log_add("k", 1)`, `nauthilus_builtin.custom_log_add("k", 2)`}, proxy.Verdict{Logs: []proxy.Attr{{Name: "k", Value: "1"}, {Name: "k", Value: "2"}}}},
		"a hold is named, not selected": {[]string{`usher.hold(1)`, b}, proxy.Verdict{Hold: time.Second, Selected: true, Host: "b", Port: 2, Reason: proxy.Selected, By: "policy:one"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, ``, func(o *Options) {
				o.Filters = nil
				for i, body := range tt.bodies {
					o.Filters = append(o.Filters, Filter{
						Name: []string{"one", "two", "three"}[i], Path: "f.lua", Text: inFilter(body), WhenAuthenticated: true,
					})
				}
			})
			got := direct(t, d, query("alice"))
			if got.Refused {
				got.Host, got.Port, got.Reason = "", 0, "" // nobody reads them
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFaultStopsTheOthers(t *testing.T) {
	d := newDirector(t, inFilter(`error("boom")`), func(o *Options) {
		second := o.Filters[0]
		second.Name, second.Text = "second", inFilter(`nauthilus_backend.select_backend_server("a", 1)`)
		o.Filters = append(o.Filters, second)
	})
	if f := askFault(t, d, query("alice")); !strings.Contains(f.Error(), "policy test: test.lua:1: boom") {
		t.Errorf("fault: %v", f)
	}
}

func TestWhichFiltersRun(t *testing.T) {
	d := newDirector(t, ``, func(o *Options) {
		o.Filters = nil
		for _, f := range []Filter{
			{Name: "auth", WhenAuthenticated: true},
			{Name: "unauth", WhenUnauthenticated: true},
			{Name: "noauth", WhenNoAuth: true},
			{Name: "all", WhenAuthenticated: true, WhenUnauthenticated: true, WhenNoAuth: true},
			{Name: "none"},
		} {
			f.Path, f.Text = f.Name+".lua", inFilter(`nauthilus_builtin.custom_log_add("ran", "`+f.Name+`")`)
			o.Filters = append(o.Filters, f)
		}
	})
	for name, tt := range map[string]struct {
		authenticated, noAuth bool
		want                  string
	}{
		"login":                      {true, false, "auth all"},
		"refused password":           {false, false, "unauth all"},
		"look-up":                    {true, true, "noauth all"},
		"look-up, not authenticated": {false, true, "noauth all"},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("alice")
			q.Authenticated, q.Request.NoAuth = tt.authenticated, tt.noAuth
			var ran []string
			for _, a := range direct(t, d, q).Logs {
				ran = append(ran, a.Value)
			}
			if got := strings.Join(ran, " "); got != tt.want {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}
	// When none wants it, no state is taken.
	d = newDirector(t, inFilter(`error("x")`), func(o *Options) { o.Filters[0].WhenNoAuth = false })
	<-d.pool
	q := query("alice")
	q.Request.NoAuth = true
	if diff := cmp.Diff(proxy.Verdict{}, direct(t, d, q)); diff != "" {
		t.Error(diff)
	}
}

// Every fault of every script, a line each.
func TestFaultsOfSeveralScripts(t *testing.T) {
	filter := func(name, text string) Filter { return Filter{Name: name, Path: name + ".lua", Text: text} }
	_, err := New(Options{
		Deps: &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore()}, Limits: budget.Limits{Steps: 1000, Memory: 1 << 20, Time: time.Second},
		Filters: []Filter{
			filter("syntax", "local x = 1\nlocal y = ="),
			filter("good", inFilter("")),
			filter("raises", "\n\nerror('boom')"),
			filter("empty", ""),
			filter("module", "require('nauthilus_nothing')"),
			filter("loops", "\nwhile true do end"),
			filter("depth", "local function f() return 1 + f() end\nf()"),
			filter("nofunction", "nauthilus_call_filter = 1"),
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		"syntax.lua:2", "raises.lua:3: boom", "empty.lua: defines no function nauthilus_call_filter", `module.lua:1: module "nauthilus_nothing"`,
		"loops.lua:2: budget of steps", "depth.lua:1: budget of depth", "nofunction.lua: defines no function",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want[i])
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Options{
		Filters: []Filter{{Name: "x", Path: "x.lua", Text: inFilter("")}}, Deps: &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore()},
		Limits: budget.Limits{Steps: 1000, Memory: 1 << 20, Time: time.Second},
	}
	for name, change := range map[string]func(*Options){
		"no dependencies": func(o *Options) { o.Deps = nil },
		"no logger":       func(o *Options) { o.Deps = &modules.Deps{} },
		"no filters":      func(o *Options) { o.Filters = nil },
		"no timeout":      func(o *Options) { o.Limits.Time = 0 },
		"no steps":        func(o *Options) { o.Limits.Steps = 0 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func TestReadFilter(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "my.lua", "return 1")
	f, err := ReadFilter(filepath.Join(dir, "my.lua"))
	if err != nil || f.Name != "my" || f.Text != "return 1" || f.Path != filepath.Join(dir, "my.lua") {
		t.Errorf("%+v, %v", f, err)
	}
	big := filepath.Join(dir, "big.lua")
	write(t, dir, "big.lua", "")
	if err := os.Truncate(big, maxScript+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{big, filepath.Join(dir, "none.lua"), dir} {
		if _, err := ReadFilter(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
