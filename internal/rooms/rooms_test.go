// Package rooms tests that imports point inward, as docs/architecture.md says.
package rooms

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// may lists, for each room, the rooms that it may import.
var may = map[string][]string{
	"proxy/affinity":     {"internal/shared", "internal/wholefile"},
	"proxy/moves":        {"internal/shared", "internal/wholefile", "proxy/affinity"},
	"proxy":              {"proxy/affinity"},
	"proxy/passdb":       {"proxy"},
	"scripts":            {},
	"internal/nearest":   {},
	"internal/shared":    {},
	"internal/wholefile": {},
	"config":             {"internal/nearest", "proxy"},
	"luabridge/budget":   {},
	"luabridge/lualib":   {"luabridge/budget"},
	"luabridge/maps":     {},
	"luabridge/modules":  {"luabridge/budget", "luabridge/lualib", "luabridge/maps", "proxy", "proxy/affinity", "proxy/passdb"},
	"luabridge":          {"internal/nearest", "luabridge/budget", "luabridge/lualib", "luabridge/modules", "proxy", "proxy/passdb"},

	"luabridge/lint":       {"internal/nearest", "luabridge", "luabridge/lualib", "luabridge/modules"},
	"luabridge/policytest": {"internal/nearest", "luabridge", "luabridge/budget", "luabridge/lualib", "luabridge/maps", "luabridge/modules", "proxy", "proxy/affinity", "proxy/passdb"},
	"luabridge/reference":  {"luabridge/modules"},

	"monitor":          {"internal/shared", "internal/wholefile", "proxy"},
	"control":          {"proxy"},
	"protocol/dovecot": {"proxy", "proxy/moves"},
	"protocol/nginx":   {"proxy"},

	"config/importdirector": {"config", "proxy"},
	"internal/sim":          {"proxy", "proxy/affinity"},
}

// anything: cmd puts the rooms together, tests look at them.
var anything = []string{"cmd/usher", "test", "test/servers", "internal/rooms"}

func TestImportsPointInward(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "usher/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		room := strings.TrimPrefix(words[0], "usher/")
		if slices.Contains(anything, room) {
			continue
		}
		allowed, known := may[room]
		if !known {
			t.Errorf("package %s is in no room: put it into one, or add the room here and to docs/architecture.md", room)
		}
		for _, imp := range words[1:] {
			if other, ours := strings.CutPrefix(imp, "usher/"); ours && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s; it may import %q", room, other, allowed)
			}
		}
	}
}
