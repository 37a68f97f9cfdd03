package config

import (
	"reflect"
	"slices"
	"strings"
)

// remarkable are the settings that deserve a word at start.
var remarkable = []setting{
	{key: "director.unlisted_backends", values: []string{"allow"}, text: "is allow: a policy may send users to any host"},
}

// A setting is a key, [] standing for every item of a list, and the values of it
// that are meant. No values: whatever is not the default.
type setting struct {
	key    string
	values []string
	text   string
}

// eachAsked calls visit for each key that is set as one of the settings says.
func eachAsked(c *Config, settings []setting, visit func(s *setting, path string, tag reflect.StructTag, value string)) {
	defaults := map[string]string{}
	walk(reflect.ValueOf(Default()).Elem(), "", func(path string, _ reflect.StructTag, v reflect.Value) {
		defaults[path] = asked(v)
	})
	walk(reflect.ValueOf(c).Elem(), "", func(path string, tag reflect.StructTag, v reflect.Value) {
		key := pattern(path)
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
		if i < 0 {
			return
		}
		s, value := &settings[i], asked(v)
		if s.values == nil && value != defaults[path] || slices.Contains(s.values, value) {
			visit(s, path, tag, value)
		}
	})
}

// asked is a value as text; "" for what is empty or false.
func asked(v reflect.Value) string {
	switch {
	case isList(v.Type()) && v.Len() > 0:
		return "list"
	case isList(v.Type()) || v.IsZero():
		return ""
	}
	return textOf(v)
}

// pattern is a path without the numbers of its items.
func pattern(path string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(path, "[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("[]")
		_, path, _ = strings.Cut(rest, "]")
	}
}

// Warnings returns what an operator should know of a configuration that stands,
// each `KEY: TEXT`, each key once, lists as KEY[].
func (c *Config) Warnings() []string {
	var out []string
	eachAsked(c, remarkable, func(s *setting, _ string, _ reflect.StructTag, _ string) {
		if w := s.key + ": " + s.text; !slices.Contains(out, w) {
			out = append(out, w)
		}
	})
	return out
}
