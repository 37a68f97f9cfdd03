package importdirector

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"usher/config"
)

var update = flag.Bool("update", false, "write the golden files")

// asIfBuilt stands for a version that has all but director-admin and the flush
// hook, so that both forms are in the golden files.
func asIfBuilt(kind string) bool { return kind != "director-admin" && kind != "flush_hook" }

// archives returns the testdata files: dovecot.conf, what Dovecot 2.3's
// `doveconf -n` (or -a) made of it, and what usher says to that. A missing
// dovecot.conf: the input is that file itself.
func archives(t testing.TB) map[string]*txtar.Archive {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no golden files:", err)
	}
	out := map[string]*txtar.Archive{}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = a
	}
	return out
}

func part(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func lines(faults []config.Fault) string {
	var b strings.Builder
	for _, f := range faults {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, a := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			got := map[string]string{}
			r, err := importAs("in", part(a, "in"), asIfBuilt)
			if err != nil {
				got["error"] = err.Error() + "\n"
			} else {
				got["usher.yaml"], got["notes"] = string(r.YAML), lines(r.Notes)
			}
			if *update {
				files := a.Files[:0:0]
				for _, f := range a.Files {
					if f.Name == "dovecot.conf" || f.Name == "in" {
						files = append(files, f)
					}
				}
				for _, k := range []string{"error", "notes", "usher.yaml"} {
					if text, ok := got[k]; ok {
						files = append(files, txtar.File{Name: k, Data: []byte(text)})
					}
				}
				a.Files = files
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, k := range []string{"error", "notes", "usher.yaml"} {
				if diff := cmp.Diff(string(part(a, k)), got[k]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", k, diff)
				}
			}
		})
	}
}

// What is written loads without a fault, and holds no secret of the input.
func TestLoads(t *testing.T) {
	for name, a := range archives(t) {
		r, err := Import("in", part(a, "in"))
		if err != nil {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
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
			if bytes.Contains(r.YAML, []byte("hush")) || strings.Contains(lines(r.Notes), "hush") {
				t.Errorf("a secret is shown:\n%s%s", r.YAML, lines(r.Notes))
			}
		})
	}
}
