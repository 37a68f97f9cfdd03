package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/parse"

	"usher/luabridge/lualib"
)

// Options say what a script is run as.
type Options struct {
	// Entry is the function that is run, nauthilus_call_filter for one.
	Entry string
	// NoAuth: it runs for look-ups without a password too.
	NoAuth bool
	// Alone: no other filter selects, so that one that does not leaves the login
	// nowhere to go.
	Alone bool
	// HostAttributes is director.host_attributes.
	HostAttributes []string
	// Hidden reports whether an environment variable is set that director.env does
	// not name. nil: none is.
	Hidden func(name string) bool
	// Requires reports whether require finds a Lua file of that name.
	Requires func(name string) bool
}

// A Warning is one line about a script.
type Warning struct {
	Path string
	Line int
	Text string
}

// String returns `FILE:LINE: TEXT`.
func (w Warning) String() string { return fmt.Sprintf("%s:%d: %s", w.Path, w.Line, w.Text) }

// Script looks at a script's text, and returns what looks wrong in it, by line.
// One that does not compile has no warnings: that is a fault, which others tell.
func Script(path, text string, opt Options) []Warning {
	if _, err := lualib.Compile(path, text); err != nil {
		return nil // it also bounds how deep blocks and expressions are nested
	}
	chunk, err := parse.Parse(strings.NewReader(text), path)
	if err != nil {
		return nil
	}
	f := newFile(chunk)
	l := &linter{file: f, opt: opt, path: path}
	l.globals()
	l.fields()
	l.calls()
	l.members()
	if opt.Entry == entryFilter && opt.Alone {
		l.paths()
	}
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Text, b.Text)) })
	return slices.Compact(l.warnings)
}

const entryFilter = "nauthilus_call_filter"

// Selects reports whether a script may select a backend, or decide otherwise
// where a login goes.
func Selects(path, text string, hostAttributes []string) bool {
	if _, err := lualib.Compile(path, text); err != nil {
		return false
	}
	chunk, err := parse.Parse(strings.NewReader(text), path)
	if err != nil {
		return false
	}
	l := &linter{file: newFile(chunk), opt: Options{HostAttributes: hostAttributes}}
	return slices.ContainsFunc(l.file.calls, l.decides)
}

type linter struct {
	*file
	opt      Options
	path     string
	warnings []Warning
}

func (l *linter) warn(line int, format string, args ...any) {
	l.warnings = append(l.warnings, Warning{l.path, line, fmt.Sprintf(format, args...)})
}
