package config

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Validate checks what the values must be, each alone and together: ranges,
// words, addresses, and the rules on who may do what. It returns Faults or nil.
// Load has done so already; call it on a Config that was made or changed in code.
func (c *Config) Validate() error {
	r := newReport(c.src)
	c.check(r)
	return r.err()
}

// RequireListener returns Faults when neither nginx nor Dovecot has a listener:
// then there is nothing to serve.
func (c *Config) RequireListener() error {
	r := newReport(c.src)
	if len(c.Nginx.Listeners)+len(c.Dovecot.Listeners) == 0 {
		r.addAt(origin{}, "", "no listener; expected one in nginx.listeners or dovecot.listeners")
	}
	return r.err()
}

// check is Validate with what decoding found.
func (c *Config) check(r *report) {
	walk(reflect.ValueOf(c).Elem(), "", func(path string, tag reflect.StructTag, v reflect.Value) {
		checkTags(r, path, tag, v)
	})
	k := &checker{report: r, Config: c, bound: map[Address]string{}}
	k.general()
	for i := range c.Nginx.Listeners {
		k.nginxListener(item("nginx.listeners", i), &c.Nginx.Listeners[i])
	}
	k.dovecot()
	k.director()
	k.passdb()
	k.redis()
	k.control()
	k.backends()
}

// checker holds what the cross-checks share.
type checker struct {
	*report
	*Config
	bound map[Address]string // listening addresses and their keys
}

// checkTags checks a value against min, max and oneof.
func checkTags(r *report, path string, tag reflect.StructTag, v reflect.Value) {
	if low, ok := tag.Lookup("min"); ok {
		high := tag.Get("max")
		if n := number(v); n < limit(v.Type(), low) || n > limit(v.Type(), high) {
			r.add(path, "%s is out of range; expected %s to %s", textOf(v), low, high)
		}
	}
	words := strings.Fields(tag.Get("oneof"))
	if len(words) == 0 {
		return
	}
	if list, ok := v.Interface().([]string); ok {
		for i, s := range list {
			switch {
			case !slices.Contains(words, s):
				r.add(item(path, i), "bad value %s; expected %s", r.show(item(path, i), s), oneOf(words))
			case slices.Contains(list[:i], s):
				r.add(item(path, i), "%q is given twice; expected each once", s)
			}
		}
		return
	}
	switch s := v.String(); {
	case s == "":
		r.add(path, "is missing; expected %s", oneOf(words))
	case !slices.Contains(words, s):
		r.add(path, "bad value %s; expected %s", r.show(path, s), oneOf(words))
	}
}

// number is the value of an int, Duration or Size.
func number(v reflect.Value) int64 { return v.Int() }

// limit reads a bound as a value of type t.
func limit(t reflect.Type, text string) int64 {
	v := reflect.New(t).Elem()
	if err := setText(v, text); err != nil {
		panic("config: bad bound in a struct tag: " + text)
	}
	return v.Int()
}

// oneOf joins words: a, b or c.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (k *checker) general() {
	if k.StateDir == "" {
		k.add("state_dir", "is empty; expected a folder")
	}
	if hook := k.Affinity.FlushHook; hook != "" && !filepath.IsAbs(hook) {
		k.add("affinity.flush_hook", "bad value %s; expected the absolute path of a program", k.show("affinity.flush_hook", hook))
	}
	sep := k.Dovecot.MasterUserSeparator
	if len(sep) > 1 || sep != "" && (sep[0] <= ' ' || sep[0] >= 0x7f) {
		k.add("dovecot.master_user_separator", "bad value %s; expected at most one printable ASCII byte", k.show("dovecot.master_user_separator", sep))
	}
}
