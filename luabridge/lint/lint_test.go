package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"usher/scripts"
)

func options() Options {
	return Options{
		Entry: entryFilter, NoAuth: true, Alone: true, HostAttributes: []string{"host", "Proxy-Host", "hostip"},
		Hidden: func(name string) bool { return name == "HOME" }, Requires: func(name string) bool { return name == "site.helpers" },
	}
}

// Each file of testdata has pairs: a script, and what is said of it.
func TestScript(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(ar.Files); i += 2 {
			script, want := ar.Files[i], ar.Files[i+1]
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+script.Name, func(t *testing.T) {
				if want.Name != "want" {
					t.Fatalf("%s is followed by %s", script.Name, want.Name)
				}
				var b strings.Builder
				for _, w := range Script("p.lua", string(script.Data), options()) {
					b.WriteString(w.String() + "\n")
				}
				if diff := cmp.Diff(strings.TrimSpace(string(want.Data)), strings.TrimSpace(b.String())); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestOptions(t *testing.T) {
	lookups := `function nauthilus_call_filter(request)
		if not request.authenticated or request.no_auth then return nauthilus_builtin.FILTER_ACCEPT end
		nauthilus_backend.select_backend_server("a", 143)
	end`
	o := options()
	if w := Script("p.lua", lookups, o); len(w) != 1 || w[0].Line != 2 {
		t.Errorf("one that runs for look-ups, and selects nothing for them: %v", w)
	}
	o.NoAuth = false
	if w := Script("p.lua", lookups, o); len(w) != 0 {
		t.Errorf("one that does not run for look-ups: %v", w)
	}
	o.Alone = false
	if w := Script("p.lua", `function nauthilus_call_filter(request) end`, o); len(w) != 0 {
		t.Errorf("another filter selects: %v", w)
	}
	if Selects("p.lua", `function nauthilus_call_filter(request) end`, nil) || !Selects("p.lua", lookups, nil) {
		t.Error("Selects")
	}
	if w := Script("p.lua", "x =", o); w != nil {
		t.Errorf("what does not compile: %v", w)
	}
}

func TestShipped(t *testing.T) {
	if w := Script("director.lua", scripts.Director, options()); len(w) != 0 {
		t.Errorf("the built-in policy: %v", w)
	}
	files, err := filepath.Glob("../../scripts/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.lua") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := options()
		o.Alone = filepath.Base(file) != "nauthilus_sessions.lua" // which goes before another
		for _, w := range Script(filepath.Base(file), string(text), o) {
			t.Error(w)
		}
	}
}

func FuzzScript(f *testing.F) {
	for _, s := range []string{
		scripts.Director, "local a = b.c(d)", "function nauthilus_call_filter(r) for i = 1, 2 do if r.x then return f(r) end end goto x ::x:: end",
		"local function f() return f() end function nauthilus_call_filter(r) f(r) end", "while x do break end",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, w := range Script("p.lua", text, options()) {
			if w.Line < 0 || strings.ContainsAny(w.Text, "\n") {
				t.Errorf("%q", w)
			}
		}
	})
}
