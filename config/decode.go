package config

import (
	"errors"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"usher/internal/nearest"
	"usher/proxy"
)

const (
	// maxValues bounds the keys and values of a file after its aliases were
	// followed: a few lines of aliases can stand for billions.
	maxValues = 1 << 20
	// maxMerge bounds how deep `<<` may nest; an anchor can contain itself.
	maxMerge = 8
)

// decoder turns YAML nodes into values.
type decoder struct {
	*report
	budget int
}

// spend takes one value off the budget and reports whether there was one.
func (d *decoder) spend(n *yaml.Node) bool {
	if d.budget--; d.budget == 0 {
		d.stop = true
		d.addAt(origin{line: n.Line}, "", "too many values; expected at most %d, aliases followed", maxValues)
	}
	return d.budget > 0
}

// pair is a key and its value in a mapping.
type pair struct {
	key   string
	line  int
	value *yaml.Node
}

// pairs returns a mapping's keys, known ones only, with `<<` merged in: what
// stands in the mapping itself wins, then the first merged. All else is reported.
func (d *decoder) pairs(n *yaml.Node, known []string, path string, depth int) []pair {
	var own, merged []pair
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !d.spend(k) || d.full() {
			break
		}
		if k.Tag == "!!merge" {
			merged = append(merged, d.merge(v, known, path, depth+1)...)
			continue
		}
		at := origin{line: k.Line}
		switch {
		case k.Kind != yaml.ScalarNode || k.Style&yaml.TaggedStyle != 0:
			d.addAt(at, path, "a key is %s; expected a name", kindOf(k))
		case first[k.Value] > 0:
			d.addAt(at, join(path, k.Value), "given twice, first on line %d; expected once", first[k.Value])
		case !isKnown(k.Value, known):
			d.unknown(at, k.Value, known, path)
		default:
			own = append(own, pair{k.Value, k.Line, v})
		}
		first[k.Value] = k.Line
	}
	for _, p := range merged {
		if first[p.key] == 0 {
			first[p.key] = p.line
			own = append(own, p)
		}
	}
	return own
}

// merge returns the pairs of the value of `<<`: a mapping or a list of them.
func (d *decoder) merge(n *yaml.Node, known []string, path string, depth int) []pair {
	n = resolve(n)
	switch {
	case depth > maxMerge:
		d.addAt(origin{line: n.Line}, path, "<< nests too deep; expected at most %d levels", maxMerge)
	case n.Kind == yaml.MappingNode:
		return d.pairs(n, known, path, depth)
	case n.Kind == yaml.SequenceNode:
		var out []pair
		for _, c := range n.Content {
			if c = resolve(c); c.Kind == yaml.MappingNode && d.spend(c) {
				out = append(out, d.pairs(c, known, path, depth)...)
			}
		}
		return out
	default:
		d.addAt(origin{line: n.Line}, path, "<< is %s; expected a mapping", kindOf(n))
	}
	return nil
}

func isKnown(name string, known []string) bool {
	for _, k := range known {
		if k == name {
			return true
		}
	}
	return false
}

func (d *decoder) unknown(at origin, name string, known []string, path string) {
	if !isName(name) {
		// It may be a value that slipped into a key's place: say little.
		d.addAt(at, path, "a key that is not a name; expected one of %s", strings.Join(known, ", "))
		return
	}
	d.addAt(at, join(path, name), "unknown key; did you mean %q?", nearest.Of(name, known))
}

// section returns a mapping as viper takes it: sections are maps, all else is
// the node itself.
func (d *decoder) section(n *yaml.Node, t reflect.Type, path string) map[string]any {
	out := map[string]any{}
	d.each(n, t, path, func(f field, p pair) {
		at := join(path, f.name)
		if !isSection(f.typ) {
			out[f.name] = p.value
			return
		}
		out[f.name] = d.section(p.value, f.typ, at)
	})
	return out
}

// each visits the keys of a mapping that are written and not null.
func (d *decoder) each(n *yaml.Node, t reflect.Type, path string, visit func(field, pair)) {
	if n == nil {
		return
	}
	if n = resolve(n); n.Kind != yaml.MappingNode {
		d.addAt(origin{line: n.Line}, path, "is %s; expected a mapping with keys", kindOf(n))
		d.broken[path] = true
		return
	}
	fs := fields(t)
	names := make([]string, len(fs))
	for i := range fs {
		names[i] = fs[i].name
	}
	for _, p := range d.pairs(n, names, path, 0) {
		if isNull(p.value) {
			continue
		}
		d.src.at[join(path, p.key)] = origin{line: p.line}
		for _, f := range fs {
			if f.name == p.key {
				visit(f, p)
			}
		}
	}
}

// value sets dst from a node.
func (d *decoder) value(dst reflect.Value, n *yaml.Node, path string) {
	n = resolve(n)
	if !d.spend(n) {
		return
	}
	switch t := dst.Type(); {
	case isSection(t):
		if x, ok := dst.Addr().Interface().(interface{ setDefaults() }); ok {
			x.setDefaults()
		}
		d.each(n, t, path, func(f field, p pair) {
			d.value(dst.Field(f.index), p.value, join(path, f.name))
		})
	case isList(t):
		if n.Kind != yaml.SequenceNode {
			d.addAt(origin{line: n.Line}, path, "is %s; expected a list", kindOf(n))
			return
		}
		d.list(dst, n, path)
	case n.Kind != yaml.ScalarNode:
		d.addAt(origin{line: n.Line}, path, "is %s; expected %s", kindOf(n), expectedOf(t))
	case n.Style&yaml.TaggedStyle != 0:
		d.addAt(origin{line: n.Line}, path, "has a YAML tag; expected %s without one", expectedOf(t))
	default:
		d.scalar(dst, n.Value, path, origin{line: n.Line})
	}
}

// list sets dst, also to an empty list: it replaces the default.
func (d *decoder) list(dst reflect.Value, n *yaml.Node, path string) {
	out := reflect.MakeSlice(dst.Type(), 0, 0)
	for i, c := range n.Content {
		if d.budget <= 0 || d.full() {
			break
		}
		at := item(path, i)
		d.src.at[at] = origin{line: c.Line}
		v := reflect.New(dst.Type().Elem()).Elem()
		if isNull(c) {
			d.addAt(origin{line: c.Line}, at, "is empty; expected a value")
			d.broken[at] = true
		} else {
			d.value(v, c, at)
		}
		out = reflect.Append(out, v)
	}
	dst.Set(out)
}

// scalar sets dst, which is no list, from a text, and remembers where it stood.
func (d *decoder) scalar(dst reflect.Value, text, path string, at origin) {
	if p, ok := dst.Addr().Interface().(*proxy.Secret); ok {
		s, err := secret(text)
		if err != nil {
			d.addAt(at, path, "%v", err)
			return
		}
		*p = s
		d.src.at[path] = at
		return
	}
	expanded, err := expand(text, false)
	if err != nil {
		d.addAt(at, path, "%v", err)
		return
	}
	if expanded != text {
		at.written = text
	}
	d.src.at[path] = at
	if ve, ok := errors.AsType[*valueError](setText(dst, expanded)); ok {
		problem := "bad value"
		if ve.problem != "" {
			problem = ve.problem + " in"
		}
		d.addAt(at, path, "%s %s; expected %s", problem, quote(text), ve.expected)
	}
}

// override sets dst from an environment variable.
func (d *decoder) override(dst reflect.Value, text, path string) {
	at := origin{env: envName(path)}
	if !isList(dst.Type()) {
		d.scalar(dst, text, path, at)
		return
	}
	d.src.at[path] = at
	out := reflect.MakeSlice(dst.Type(), 0, 0)
	for i, part := range strings.Split(text, ",") {
		v := reflect.New(dst.Type().Elem()).Elem()
		d.scalar(v, strings.TrimSpace(part), item(path, i), at)
		out = reflect.Append(out, v)
	}
	dst.Set(out)
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = resolve(n)
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

func kindOf(n *yaml.Node) string {
	switch resolve(n).Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}
