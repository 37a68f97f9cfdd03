package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files")

// TestFaults: each testdata/faults/NAME.txtar holds a broken usher.yaml, maybe
// an environment (NAME=VALUE lines), and the whole message that Load gives.
func TestFaults(t *testing.T) {
	names, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no golden files:", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var input []byte
			want := ""
			for _, f := range archive.Files {
				switch f.Name {
				case "usher.yaml":
					input = f.Data
				case "env":
					for line := range strings.Lines(string(f.Data)) {
						k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
						t.Setenv(k, v)
					}
				case "want":
					want = string(f.Data)
				}
			}
			_, err = parse("usher.yaml", input)
			if err == nil {
				t.Fatal("no fault")
			}
			got := err.Error() + "\n"
			if *update {
				for i := range archive.Files {
					if archive.Files[i].Name == "want" {
						archive.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(got) {
				if !strings.HasPrefix(line, "usher.yaml") && !strings.HasPrefix(line, "USHER_") {
					t.Errorf("a line without its place: %q", line)
				}
			}
		})
	}
}
