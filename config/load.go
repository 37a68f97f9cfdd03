package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds the configuration file.
const maxFile = 4 << 20

// Load reads the file at path, lays environment overrides over it and defaults
// under it, and checks the whole. An empty path means no file: defaults and
// environment.
//
// A file that cannot be read is one error that wraps the cause. All else that is
// wrong comes as Faults, complete and in order.
//
// An override is USHER_ and the key in upper case with _ for each dot:
// USHER_LOG_LEVEL, USHER_DIRECTOR_SCRIPT. It reaches every key outside of lists;
// a list of single values is given with commas between them. An empty variable
// overrides nothing.
func Load(path string) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readFile(path); err != nil {
			return nil, err
		}
	}
	return parse(path, data)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(data) > maxFile {
		return nil, Faults{{File: path, Text: "the file is too long; expected at most 4 MiB"}}
	}
	return data, nil
}

// parse is Load of a file's content.
func parse(file string, data []byte) (*Config, error) {
	c, r := decode(file, data)
	if r.stop {
		return nil, r.err()
	}
	c.check(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// decode merges file, environment and defaults. What is wrong keeps its default
// and is reported.
func decode(file string, data []byte) (*Config, *report) {
	c := Default()
	c.src = &source{file: file, at: map[string]origin{}}
	r := newReport(c.src)
	root, fault := parseYAML(data)
	if fault != nil {
		r.addAt(origin{line: fault.Line}, "", "%s", fault.Text)
		r.stop = true
		return c, r
	}

	v := viper.New()
	d := &decoder{report: r, budget: maxValues}
	err := v.MergeConfigMap(d.section(root, reflect.TypeFor[Config](), ""))
	leaves(reflect.ValueOf(c).Elem(), "", func(path string, dst reflect.Value) {
		v.SetDefault(path, builtIn{})
		if envReaches(dst.Type()) {
			// Bound one by one: viper's automatic environment would take a
			// variable of a section's name as the end of all its keys.
			err = errors.Join(err, v.BindEnv(path, envName(path)))
		}
	})
	if err != nil {
		r.addAt(origin{}, "", "merge: %v", err)
		r.stop = true
		return c, r
	}
	leaves(reflect.ValueOf(c).Elem(), "", func(path string, dst reflect.Value) {
		switch x := v.Get(path).(type) {
		case *yaml.Node:
			d.value(dst, x, path)
		case string:
			d.override(dst, x, path)
		}
	})
	c.settle()
	return c, r
}

// builtIn is what viper holds as the default of each key: the value stays what
// Default made it. A key without a default is not reached by the environment.
type builtIn struct{}

// envReaches reports whether a key can be set by a variable: all but lists of
// sections.
func envReaches(t reflect.Type) bool { return !isList(t) || !isSection(t.Elem()) }

// settle fills in the defaults that depend on other values.
func (c *Config) settle() {
	for i := range c.Nginx.Listeners {
		if l := &c.Nginx.Listeners[i]; l.Address.Network == "unix" && l.Mode == 0 {
			l.Mode = 0o660
		}
	}
	for i := range c.Dovecot.Listeners {
		l := &c.Dovecot.Listeners[i]
		if l.Address.Network != "unix" || l.Mode != 0 {
			continue
		}
		l.Mode = 0o600
		if l.Kind == "auth" || l.Kind == "notify" {
			l.Mode = 0o666
		}
	}
	c.Monitoring.inherit(func(i int, key string) bool {
		return c.src.has(item(backendServers, i) + "." + key)
	})
}

// parseYAML returns the file's mapping, nil when there is nothing in it.
func parseYAML(data []byte) (*yaml.Node, *Fault) {
	if line := badByte(data); line > 0 {
		return nil, &Fault{Line: line, Text: "not a text; expected UTF-8 without control bytes"}
	}
	docs, err := documents(data)
	switch {
	case err != nil:
		return nil, syntaxFault(data, err)
	case len(docs) == 0:
		return nil, nil
	case len(docs) > 1:
		return nil, &Fault{Line: docs[1].Line, Text: "a second YAML document; expected one"}
	}
	root := docs[0].Content[0]
	if isNull(root) {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, &Fault{Line: root.Line, Text: "the file is " + kindOf(root) + "; expected `key: value` lines"}
	}
	return root, nil
}

// documents parses at most two YAML documents.
func documents(data []byte) ([]yaml.Node, error) {
	var docs []yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for len(docs) < 2 {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// syntaxFault puts an error of the YAML library in our form. The library repeats
// content in two of its messages; they are replaced, since it may be a secret.
//
// Its line is where the surrounding mapping or list begins, or the one before.
// The line that matters is the last of the shortest beginning of the file that
// gives the same error.
func syntaxFault(data []byte, err error) *Fault {
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	for i, end := 0, 0; i < len(lines); i++ {
		end += len(lines[i])
		ends[i] = end
	}
	line := 1 + sort.Search(len(lines)-1, func(i int) bool {
		_, e := documents(data[:ends[i]])
		return e != nil && e.Error() == err.Error()
	})
	text := yamlPrefix.ReplaceAllString(err.Error(), "")
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = "a reference to an anchor that does not exist; expected quotes around a text that begins with *"
	case strings.HasPrefix(text, "cannot decode"):
		text = "a tag does not fit its value"
	}
	return &Fault{Line: line, Text: "not YAML: " + text}
}

// badByte returns the line of the first byte that no configuration file has, or
// 0. The library would report it without a line.
func badByte(data []byte) int {
	line := 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85:
			return line
		}
		i += n
	}
	return 0
}
