package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"
)

var secretKeys = []string{"shared_secret", "pass", "api_key", "password", "sentinel_password", "token", "test_password"}

// FuzzLoad: no input panics, every fault has its place, no message repeats the
// value of a key that holds a secret, and what loads can be printed and loaded.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(secretYAML))
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	names, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("usher.yaml", data)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "usher.yaml") {
					t.Errorf("a fault without its place: %q", line)
				}
			}
			for _, s := range secretsIn(data) {
				if strings.Contains(err.Error(), s) {
					t.Errorf("the message shows %q:\n%v", s, err)
				}
			}
			return
		}
		printed, err := c.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse("printed.yaml", printed); err != nil {
			t.Errorf("read back: %v\n%s", err, printed)
		}
	})
}

// secretsIn returns the values of secret keys that stand nowhere else in data.
func secretsIn(data []byte) []string {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil
	}
	var out []string
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		for i, c := range n.Content {
			visit(c)
			if n.Kind != yaml.MappingNode || i%2 == 0 || !slices.Contains(secretKeys, n.Content[i-1].Value) || c.Kind != yaml.ScalarNode {
				continue
			}
			// A reference is named, for help.
			v := c.Value
			if len(v) >= 8 && strings.Count(string(data), v) == 1 && !strings.HasPrefix(v, "${") && !strings.HasPrefix(v, "file:") {
				out = append(out, v)
			}
		}
	}
	visit(&doc)
	return slices.DeleteFunc(out, func(s string) bool { return strings.Contains(messages, s) })
}

// messages are words that stand in our own texts, and so may be in a fault.
const messages = "expected unknown key; did you mean a duration such as environment variable is missing usher.yaml"
