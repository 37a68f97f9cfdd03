package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"usher/luabridge/modules"
)

var luaBlock = regexp.MustCompile("(?s)```lua\n(.*?)```")

// What the documents show raises no warning: whole policies, and the examples of
// functions within one.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return filepath.Base(name) == "lua-api.md" }) // parts
	tests := regexp.MustCompile(`(?m)^\s*(describe|it|given|expect)\b`)                                     // of policies: they have globals of their own
	entry := regexp.MustCompile(`(?m)^function (nauthilus_\w+)\(`)
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range luaBlock.FindAllSubmatch(text, -1) {
			if tests.Match(b[1]) {
				continue
			}
			o := options()
			o.Alone = false // those that show a part route only some
			if m := entry.FindSubmatch(b[1]); m != nil {
				o.Entry = string(m[1])
			}
			for _, w := range Script(file, string(b[1]), o) {
				t.Errorf("%s\n%s", w, b[1])
			}
		}
	}
	example := func(f modules.Func) {
		o := options()
		o.Alone = false
		for _, w := range Script(f.Name, "function nauthilus_call_filter(request) "+f.Example+"\nend", o) {
			t.Errorf("%s\n%s", w, f.Example)
		}
	}
	for _, f := range modules.Globals {
		example(f)
	}
	for _, f := range modules.Entries {
		o := options()
		o.Entry = f.Name
		for _, w := range Script(f.Name, f.Example, o) {
			t.Errorf("%s\n%s", w, f.Example)
		}
	}
	for _, m := range modules.All {
		for _, f := range m.Funcs {
			example(f)
		}
		for _, typ := range m.Types {
			for _, f := range typ.Methods {
				example(f)
			}
		}
	}
}
