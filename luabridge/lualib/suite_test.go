package lualib

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// disabled are lines of the suite that gopher-lua has made comments, since its
// own library fails them.
var disabled = regexp.MustCompile(`(?m)^--( *(?:(?:assert|local|for|end)\b|").*)$`)

// The official test suite of Lua 5.1, as it comes with gopher-lua's source.
func TestReferenceSuite(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yuin/gopher-lua").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "_lua5.1-tests")
	for file, enabled := range map[string]int{"pm.lua": 18, "strings.lua": 4, "sort.lua": 0, "vararg.lua": 0} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			source := disabled.ReplaceAllStringFunc(string(text), func(line string) string {
				if strings.HasPrefix(line, "-- assert(os.") || strings.HasPrefix(line, "-- assert(loadstring") {
					return line // of the parser and of locales
				}
				n++
				return line[2:]
			})
			if n != enabled {
				t.Errorf("%d lines enabled again, expected %d", n, enabled)
			}
			L, _ := newLua(t, plenty)
			if err := do(L, source); err != nil {
				t.Error(err)
			}
		})
	}
}
