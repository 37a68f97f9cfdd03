package policytest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

var luaBlock = regexp.MustCompile("(?ms)^ *```lua\n(.*?)^ *```")

// What docs/policies.md shows runs: its policies are what its tests are of, or
// else the shelf's.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../scripts")); err != nil {
		t.Fatal(err)
	}
	blocks := luaBlock.FindAllSubmatch(text, -1)
	tests := 0
	for _, b := range blocks {
		name := "route.lua"
		if !strings.Contains(string(b[1]), "nauthilus_call_filter") {
			name = "route_test.lua"
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "route.lua" {
			continue
		}
		tests++
		if r := Run(context.Background(), []string{path}); !r.OK() {
			t.Error(printed(t, r))
		}
	}
	if len(blocks) != 3 || tests != 2 {
		t.Errorf("%d blocks of Lua, %d tests", len(blocks), tests)
	}
	for name := range plainKeys {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("given.%s is not documented", name)
		}
	}
	for name := range namedKeys {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("given.%s is not documented", name)
		}
	}
	for name := range expectations {
		if !strings.Contains(string(text), ":"+name+"(") {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, name := range decisionFields {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("a decision's %s is not documented", name)
		}
	}
	policies, err := filepath.Glob("../../scripts/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range policies {
		if name := filepath.Base(path); !strings.HasSuffix(name, suffix) && !strings.Contains(string(text), "**`"+name+"`") {
			t.Errorf("%s of the shelf is not documented", name)
		}
	}
}

// Editors know the names that tests have besides Lua's.
func TestSettings(t *testing.T) {
	text, err := os.ReadFile("../../scripts/.luarc.json")
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		Globals []string `json:"diagnostics.globals"`
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	lua5, s := newLua(new(budget.Budget)), newSuite("p_test.lua", map[string]bool{})
	defer lua5.Close()
	defer s.L.Close()
	var own []string
	s.L.G.Global.ForEach(func(k, _ lua.LValue) {
		if lua5.G.Global.RawGet(k) == lua.LNil {
			own = append(own, k.String())
		}
	})
	slices.Sort(own)
	if !slices.Equal(own, settings.Globals) {
		t.Errorf("tests have %q, editors know %q", own, settings.Globals)
	}
}
