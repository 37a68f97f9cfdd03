package luabridge

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

var luaBlock = regexp.MustCompile("(?s)```lua\n(.*?)```")

// The policies that the documents show load, run and select a backend.
func TestDocumentedPolicies(t *testing.T) {
	for _, file := range []string{"../README.md", "../docs/lua.md", "../docs/maps.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := luaBlock.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("%s shows no policy", file)
		}
		for i, b := range blocks {
			t.Run(fmt.Sprintf("%s/%d", file, i+1), func(t *testing.T) {
				if v := direct(t, newDirector(t, string(b[1]), given(t, map[string]string{"moved.map": "bob@example.org 192.0.2.12\n"})), query("alice@example.org")); !v.Selected {
					t.Errorf("nothing is selected: %+v", v)
				}
			})
		}
	}
}
