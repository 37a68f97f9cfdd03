package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// keysOf returns every key, [] for the items of lists, with its words.
func keysOf(c *Config) map[string]string {
	out := map[string]string{}
	walk(reflect.ValueOf(c).Elem(), "", func(path string, tag reflect.StructTag, _ reflect.Value) {
		out[pattern(path)] = tag.Get("oneof")
	})
	return out
}

// TestReference: docs/configuration.md has a row for each key, in the order of
// the file, with the default that Load uses, and no other row.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ key, def string }
	var got []row
	prefix := ""
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "## `"); ok {
			prefix, _, _ = strings.Cut(name, "`")
			prefix += "."
		} else if strings.HasPrefix(line, "## ") {
			prefix = ""
		}
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		got = append(got, row{prefix + strings.Trim(cells[1], " `"), strings.Trim(cells[3], " `")})
	}

	c := Default()
	c.Nginx.Listeners = make([]NginxListener, 1)
	c.Nginx.Listeners[0].setDefaults()
	c.Dovecot.Listeners = make([]DovecotListener, 1)
	c.Dovecot.Listeners[0].setDefaults()
	c.Dovecot.Doveadm = make([]Doveadm, 1)
	c.Dovecot.Doveadm[0].setDefaults()
	c.Director.Filters = make([]Filter, 1)
	c.Director.Features = make([]Feature, 1)
	c.Monitoring.BackendServers = make([]Backend, 1)
	c.Monitoring.BackendServers[0].setDefaults()
	var want []row
	walk(reflect.ValueOf(c).Elem(), "", func(path string, _ reflect.StructTag, v reflect.Value) {
		r := row{key: pattern(path)}
		switch {
		case isList(v.Type()) && isSection(v.Type().Elem()):
			return
		case isList(v.Type()):
			var items []string
			for i := range v.Len() {
				items = append(items, textOf(v.Index(i)))
			}
			r.def = "[" + strings.Join(items, ", ") + "]"
		default:
			r.def = textOf(v)
		}
		want = append(want, r)
	})
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			t.Fatalf("no row for %v", want[i])
		case i >= len(want):
			t.Fatalf("a row for no key: %v", got[i])
		case got[i].key != want[i].key:
			t.Fatalf("row %d is for %s, want %s", i, got[i].key, want[i].key)
		case got[i].def == "required" || strings.HasSuffix(got[i].key, ".mode"): // no default, or one by kind
		case got[i].def != want[i].def:
			t.Errorf("%s: default %q, want %q", got[i].key, got[i].def, want[i].def)
		}
	}
}
