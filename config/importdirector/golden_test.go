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
			r, err := Import("in", part(a, "in"))
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

// What is too much is refused, in one line with its place.
func TestLimits(t *testing.T) {
	const servers = "director_mail_servers = 192.0.2.1\n"
	for _, tt := range []struct{ name, in, want string }{
		{"size", strings.Repeat("# comment\n", MaxInput/10+1), "in: the file is too long; expected at most 4 MiB"},
		{"nesting", strings.Repeat("service a {\n", maxNesting+1), "in:33: sections nest too deep; expected at most 32 levels"},
		{"hosts", "director_mail_servers = 2001:db8::-2001:db8::ffff\n", "in:1: director_mail_servers: more than 4096 hosts; expected fewer"},
		{"ranges", "director_mail_servers =" + strings.Repeat(" 10.0.0.0-10.0.0.255", 17) + "\n", "in:1: director_mail_servers: more than 4096 hosts; expected fewer"},
		{"tag", "director_mail_servers = 192.0.2.1@" + strings.Repeat("t", 65), `in:1: director_mail_servers: the tag of "192.0.2.1"; expected 1 to 64 bytes of text without spaces and @, which is what usher takes`},
		{"path", servers + "base_dir = /" + strings.Repeat("d", 100), "in:2: base_dir: the path has 122 bytes; expected at most 107"},
		{"NUL", servers + "a = \x00\n", "in:2: a NUL byte; expected text, as doveconf -n prints it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Import("in", []byte(tt.in))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
	r, err := Import("in", []byte(servers+strings.Repeat("director_x = 1\n", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != maxNotes+1 {
		t.Errorf("%d notes, want %d and one that says so", len(r.Notes), maxNotes)
	}
}

// The largest inventory that is written is one that usher reads.
func TestLargest(t *testing.T) {
	in := "director_mail_servers = 2001:db8:1111:2222:3333:4444:5555:1000-2001:db8:1111:2222:3333:4444:5555:1fff@" + strings.Repeat("t", maxTag) + "\n"
	for _, s := range loginServices {
		in += "service " + s.program + " {\n executable = " + s.program + " director\n}\n"
	}
	r, err := Import("in", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(path, r.YAML, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Monitoring.BackendServers); n != maxHosts*len(loginServices) {
		t.Errorf("%d entries, want %d", n, maxHosts*len(loginServices))
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]string{
		"15 mins": "15m", "15min": "15m", "1 h": "1h", "90s": "1m30s", "2 days": "48h", "1 week": "168h", "0": "0s", "2000 ms": "2s", "5 SECS": "5s", "1 m": "1m",
		"15": "", "x": "", "": "", "1 year": "", "99999999999 s": "", "1500 msecs": "", "-1 s": "", "1 minx": "",
	} {
		d, err := duration(text)
		if got := short(d); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("duration(%q) = %s, %v; want %q", text, got, err, want)
		}
	}
}
