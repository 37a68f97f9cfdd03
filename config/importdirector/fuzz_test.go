package importdirector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/config"
)

// FuzzImport: no input panics, each fault and note is one line with its file,
// and what is written loads.
func FuzzImport(f *testing.F) {
	for _, a := range archives(f) {
		f.Add(part(a, "in"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		oneLine := func(s string) {
			if !strings.HasPrefix(s, "in:") || strings.ContainsAny(s, "\n\r\x00\x1b") {
				t.Errorf("not one line with its place: %q", s)
			}
		}
		r, err := Import("in", data)
		if err != nil {
			oneLine(err.Error())
			return
		}
		for _, n := range r.Notes {
			oneLine(n.String())
		}
		path := filepath.Join(t.TempDir(), "usher.yaml")
		if err := os.WriteFile(path, r.YAML, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.YAML)
		}
		if err := c.RequireListener(); err != nil {
			t.Error(err)
		}
	})
}
