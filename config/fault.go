package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxFaults bounds what one broken file can make us say.
const maxFaults = 200

// A Fault is one thing that is wrong in a configuration. It never repeats a
// secret.
type Fault struct {
	File string // "": not from a file
	Line int    // from 1; 0: not on one line
	Env  string // name of the environment variable that set the value
	Key  string // director.timeout, nginx.listeners[0].path; "": the whole
	Text string // what is wrong, and what was expected
}

// String returns `FILE:LINE: KEY: TEXT`, with the environment variable in place
// of file and line where it set the value. What is not known is left out.
func (f Fault) String() string {
	var b strings.Builder
	switch {
	case f.Env != "":
		b.WriteString(f.Env + ": ")
	case f.File != "" && f.Line > 0:
		b.WriteString(f.File + ":" + strconv.Itoa(f.Line) + ": ")
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults are all that is wrong, in the order of the file's lines; those that
// environment variables caused come last.
type Faults []Fault

// Error implements error: one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// source is where the values of a Config came from.
type source struct {
	file string
	at   map[string]origin // by key path
}

// origin is where one value was written.
type origin struct {
	line int    // in the file
	env  string // or the variable that overrides the file
	// written is the text before `${…}` was expanded, when it was.
	written string
}

// find returns the origin of a key, or of the nearest section or list around it.
func (s *source) find(key string) origin {
	for {
		if o, ok := s.at[key]; ok || key == "" {
			return o
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
}

// has reports whether the key was written down.
func (s *source) has(key string) bool {
	_, ok := s.at[key]
	return ok
}

// report collects faults: one a key, the first.
type report struct {
	src    *source
	faults Faults
	seen   map[string]bool
	broken map[string]bool // items without keys: what is missing in them is no news
	stop   bool            // not worth checking any further
}

func newReport(src *source) *report {
	if src == nil {
		src = &source{}
	}
	return &report{src: src, seen: map[string]bool{}, broken: map[string]bool{}}
}

// add notes a fault of key where it, or what surrounds it, stands.
func (r *report) add(key, format string, args ...any) {
	if i := strings.LastIndexByte(key, '.'); i >= 0 && r.broken[key[:i]] {
		return
	}
	r.addAt(r.src.find(key), key, format, args...)
}

func (r *report) addAt(o origin, key, format string, args ...any) {
	switch {
	case key != "" && r.seen[key]:
		return
	case r.full():
		return
	}
	r.seen[key] = true
	f := Fault{File: r.src.file, Line: o.line, Env: o.env, Key: key, Text: fmt.Sprintf(format, args...)}
	r.faults = append(r.faults, f)
}

func (r *report) full() bool { return len(r.faults) >= maxFaults }

// ok reports whether key has no fault so far.
func (r *report) ok(key string) bool { return !r.seen[key] }

// show quotes a value for a fault: as it was written, cut short, without what
// could be the user and password of a URL.
func (r *report) show(key, value string) string {
	if o := r.src.at[key]; o.written != "" {
		value = o.written
	}
	return quote(value)
}

func quote(value string) string {
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		value = "[redacted]" + value[i:]
	}
	const most = 80
	if len(value) > most {
		return strconv.Quote(strings.ToValidUTF8(value[:most], "")) + "…"
	}
	return strconv.Quote(value)
}

// err returns the faults in order, or nil.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Env, b.Env), cmp.Compare(a.Line, b.Line))
	})
	if r.full() {
		r.faults = append(r.faults, Fault{File: r.src.file, Text: fmt.Sprintf("no more than %d faults are shown", maxFaults)})
	}
	return r.faults
}
