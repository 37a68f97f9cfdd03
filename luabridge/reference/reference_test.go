package reference

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/gopher-lua/parse"

	"usher/luabridge/modules"
)

var update = flag.Bool("update", false, "write docs/lua-api.md and scripts/types")

const (
	docs  = "../../docs/lua-api.md"
	types = "../../scripts/types"
)

// Every function has a signature that can be read, a text and an example; every
// field and type a text.
func TestTables(t *testing.T) {
	for _, fault := range Faults() {
		t.Errorf("luabridge/modules: %s", fault)
	}
}

// The files are what the tables say.
func TestGenerated(t *testing.T) {
	want := map[string]string{docs: Markdown()}
	for name, text := range Types() {
		want[filepath.Join(types, name)] = text
	}
	there, err := filepath.Glob(filepath.Join(types, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if _, ok := want[name]; ok {
			continue
		}
		if !*update {
			t.Errorf("%s is of no module: run make generate", name)
		} else if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if *update {
		if err := os.MkdirAll(types, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if *update {
			if err := os.WriteFile(name, []byte(want[name]), 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v: run make generate", err)
		} else if diff := cmp.Diff(want[name], string(got)); diff != "" {
			t.Errorf("%s is not what luabridge/modules says: run make generate, and commit what it writes\n%s", name, diff)
		}
	}
}

// The annotations are Lua.
func TestTypes_Compile(t *testing.T) {
	for name, text := range Types() {
		if _, err := parse.Parse(strings.NewReader(text), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "---@") && strings.Contains(line, "  ") {
				t.Errorf("%s:%d: a part is missing: %s", name, i+1, line)
			}
		}
	}
}

// The settings beside the scripts name the folder that is written.
func TestSettings(t *testing.T) {
	text, err := os.ReadFile("../../scripts/.luarc.json")
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		Library []string `json:"workspace.library"`
		Version string   `json:"runtime.version"`
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Base(types)}; !slices.Equal(settings.Library, want) || settings.Version != "Lua 5.1" {
		t.Errorf("%+v", settings)
	}
}

// What a heading links to is there, once.
func TestMarkdown_Links(t *testing.T) {
	text := Markdown()
	anchors := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^##+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchors[anchor(m[1])]++
	}
	for name, n := range anchors {
		if n > 1 {
			t.Errorf("%d headings make #%s", n, name)
		}
	}
	links := regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(text, -1)
	if len(links) < len(modules.All) {
		t.Errorf("%d links", len(links))
	}
	for _, m := range links {
		if anchors[m[1]] == 0 {
			t.Errorf("nothing is at #%s", m[1])
		}
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"one two  three\nfour ünfünfünf": "--one two\n--three\n--four\n--ünfünfünf\n",
		"one two - x 20. years":          "--one two -\n--x 20.\n--years\n",
		"":                               "",
	} {
		if got := wrap(text, "--", 9); got != want {
			t.Errorf("%q", got)
		}
	}
}
