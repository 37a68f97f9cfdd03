package policytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/internal/nearest"
)

// A given is what tests have to begin with, each value as its parser made it.
type given struct {
	plain map[string]any            // one value: the inner one replaces the outer
	named map[string]map[string]any // by name: the inner ones are added
	down  bool                      // redis = "down"
}

// plainKeys are the keys of given that have one value.
var plainKeys = map[string]func(s *suite, v lua.LValue) (any, error){
	"policy":            func(s *suite, v lua.LValue) (any, error) { return s.scripts(v, true) },
	"filters":           func(s *suite, v lua.LValue) (any, error) { return s.scripts(v, false) },
	"features":          func(s *suite, v lua.LValue) (any, error) { return s.scripts(v, false) },
	"init":              func(s *suite, v lua.LValue) (any, error) { return s.scripts(v, false) },
	"backends":          func(_ *suite, v lua.LValue) (any, error) { return readBackends(v) },
	"time":              func(_ *suite, v lua.LValue) (any, error) { return readTime(v) },
	"affinity":          oneOf("policy", "enforce", "off"),
	"unlisted_backends": oneOf("allow", "deny"),
	"host_attributes":   func(_ *suite, v lua.LValue) (any, error) { return readTexts(v) },
	"network":           func(_ *suite, v lua.LValue) (any, error) { return readBool(v) },
	"package_path":      func(s *suite, v lua.LValue) (any, error) { return s.packagePath(v) },
}

// namedKeys are those that have a value for each of several names.
var namedKeys = map[string]func(v lua.LValue) (any, error){
	"health": func(v lua.LValue) (any, error) {
		return oneOf("up", "down", "checking", "unknown", "stale", "drain")(nil, v)
	},
	"assigned": func(v lua.LValue) (any, error) { return readText(v) },
	"env":      func(v lua.LValue) (any, error) { return readText(v) },
	"maps":     readMap,
	"redis":    readRedis,
	"http":     readHTTP,
	"dns":      readDNS,
}

func newGiven() given {
	return given{plain: map[string]any{}, named: map[string]map[string]any{}}
}

// over returns g with inner's values over it.
func (g given) over(outer given) given {
	out := newGiven()
	for _, from := range []given{outer, g} {
		if from.plain["policy"] != nil || from.plain["filters"] != nil {
			delete(out.plain, "policy")
			delete(out.plain, "filters")
		}
		maps.Copy(out.plain, from.plain)
		for key, values := range from.named {
			if out.named[key] == nil {
				out.named[key] = map[string]any{}
			}
			for name, v := range values {
				if v == nil {
					delete(out.named[key], name)
				} else {
					out.named[key][name] = v
				}
			}
		}
		if from.down || from.named["redis"] != nil {
			out.down = from.down
		}
	}
	return out
}

// readGiven reads the table of one call of given.
func (s *suite) readGiven(t *lua.LTable) (given, error) {
	g := newGiven()
	for _, f := range fields(t) {
		v := f.value
		if plain := plainKeys[f.name]; plain != nil {
			parsed, err := plain(s, v)
			if err != nil {
				return g, fmt.Errorf("given.%s: %w", f.name, err)
			}
			g.plain[f.name] = parsed
			continue
		}
		one := namedKeys[f.name]
		if one == nil {
			return g, unknown("given has no", f.name, slices.Concat(keys(plainKeys), keys(namedKeys)))
		}
		if f.name == "redis" && v == lua.LString("down") {
			g.down = true
			continue
		}
		table, ok := v.(*lua.LTable)
		if !ok {
			return g, fmt.Errorf("given.%s: expected a table, got a %s", f.name, v.Type())
		}
		g.named[f.name] = map[string]any{}
		for _, e := range fields(table) {
			if e.value == lua.LFalse {
				g.named[f.name][e.name] = nil // takes an outer one away
				continue
			}
			parsed, err := one(e.value)
			if err != nil {
				return g, fmt.Errorf("given.%s[%q]: %w", f.name, e.name, err)
			}
			g.named[f.name][e.name] = parsed
		}
	}
	if g.plain["policy"] != nil && g.plain["filters"] != nil {
		return g, fmt.Errorf("given has policy and filters: expected one of them")
	}
	return g, nil
}

// unknown is the error of a name that is none of several.
func unknown(what, name string, known []string) error {
	return fmt.Errorf("%s %q%s", what, name, meant(name, known))
}

// meant says which of the known names somebody may have meant, or else all of
// them.
func meant(name string, known []string) string {
	if near := nearest.Likely(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; expected one of " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// A field is one of a table, its key as text.
type field struct {
	name  string
	value lua.LValue
}

// fields are those of a table, sorted by name, so that of several faults it is
// always the same that is told.
func fields(t *lua.LTable) (list []field) {
	t.ForEach(func(k, v lua.LValue) { list = append(list, field{k.String(), v}) })
	slices.SortFunc(list, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return list
}

func oneOf(words ...string) func(*suite, lua.LValue) (any, error) {
	return func(_ *suite, v lua.LValue) (any, error) {
		text, ok := v.(lua.LString)
		if !ok || !slices.Contains(words, string(text)) {
			return nil, fmt.Errorf("%s: expected one of %s", show(v), strings.Join(words, ", "))
		}
		return string(text), nil
	}
}

func readText(v lua.LValue) (string, error) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), nil
	case lua.LNumber:
		return v.String(), nil
	}
	return "", fmt.Errorf("expected a string, got a %s", v.Type())
}

func readBool(v lua.LValue) (bool, error) {
	b, ok := v.(lua.LBool)
	if !ok {
		return false, fmt.Errorf("expected true or false, got a %s", v.Type())
	}
	return bool(b), nil
}

// readTexts reads a list of texts; one text stands for itself.
func readTexts(v lua.LValue) ([]string, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		text, err := readText(v)
		return []string{text}, err
	}
	list := []string{}
	for i := 1; i <= t.Len(); i++ {
		text, err := readText(t.RawGetInt(i))
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		list = append(list, text)
	}
	return list, nil
}

func readTime(v lua.LValue) (time.Time, error) {
	if n, ok := v.(lua.LNumber); ok {
		return time.Unix(int64(n), 0).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, v.String())
	if err != nil {
		return at, fmt.Errorf("%s: expected a time like 2026-03-01T02:30:00Z", show(v))
	}
	return at, nil
}

// readMap reads a map's content: a text, a list of lines, or keys with values.
func readMap(v lua.LValue) (any, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return readText(v)
	}
	var b strings.Builder
	for _, f := range fields(t) {
		text, err := readText(f.value)
		if err != nil {
			return nil, fmt.Errorf("[%q]: %w", f.name, err)
		}
		if t.Len() == 0 {
			text = f.name + " " + text
		}
		b.WriteString(text + "\n")
	}
	return b.String(), nil
}
