package importdirector

import (
	"bytes"
	"fmt"
	"strings"

	"usher/config"
)

const (
	// MaxInput is the most bytes that Import reads.
	MaxInput = 4 << 20
	// maxNesting bounds sections in sections; Dovecot's own go four deep.
	maxNesting = 32
	// hiddenPart stands in the middle of a value where doveconf hides a secret.
	// It is no comment, though it begins with #.
	hiddenPart = "#hidden_use-P_to_show#"
	// hiddenValue is what doveconf prints for a value that is a secret.
	hiddenValue = "# hidden, use -P to show it"
)

// A setting is one `key = value`.
type setting struct {
	key, value string
	line       int
	hidden     bool // doveconf hid the value, or a part of it
	cut        bool // a # with no space before it ended the value
}

// A section is `kind name { … }`; the whole file is one without kind.
type section struct {
	kind, name string
	line       int
	settings   []setting
	sections   []*section
}

// get returns the setting that counts, the last one.
func (s *section) get(key string) (setting, bool) {
	for i := len(s.settings) - 1; i >= 0; i-- {
		if s.settings[i].key == key {
			return s.settings[i], true
		}
	}
	return setting{}, false
}

// all returns the sections of a kind, in order.
func (s *section) all(kind string) []*section {
	var out []*section
	for _, c := range s.sections {
		if c.kind == kind {
			out = append(out, c)
		}
	}
	return out
}

// merged returns the sections of a kind, those of one name made into one, as
// Dovecot does with services and their listeners.
func (s *section) merged(kind string) []*section {
	var out []*section
	at := map[string]*section{}
	for _, c := range s.all(kind) {
		first := at[c.name]
		if first == nil || c.name == "" {
			first = &section{kind: c.kind, name: c.name, line: c.line}
			at[c.name] = first
			out = append(out, first)
		}
		first.settings = append(first.settings, c.settings...)
		first.sections = append(first.sections, c.sections...)
	}
	return out
}

// A file is a parsed configuration.
type file struct {
	root    *section
	comment string // the first line, when it is a comment
}

// parser reads lines as Dovecot 2.3 does (src/config/config-parser.c,
// config_parse_line).
type parser struct {
	name string
	line int
	open []*section
}

func (p *parser) fault(format string, args ...any) error {
	return config.Faults{{File: p.name, Line: p.line, Text: fmt.Sprintf(format, args...)}}
}

// parse reads a file. Its errors are config.Faults with one fault, and repeat no
// value.
func parse(name string, data []byte) (*file, error) {
	if len(data) > MaxInput {
		return nil, config.Faults{{File: name, Text: fmt.Sprintf("the file is too long; expected at most %d MiB", MaxInput>>20)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	f := &file{root: &section{}}
	p := &parser{name: name, open: []*section{f.root}}
	var joined strings.Builder // what came before, of a line that goes on
	for raw := range bytes.Lines(data) {
		p.line++
		text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if strings.IndexByte(text, 0) >= 0 {
			return nil, p.fault("a NUL byte; expected text, as doveconf -n prints it")
		}
		if p.line == 1 && strings.HasPrefix(text, "#") {
			f.comment = text
		}
		line, cut := uncomment(strings.TrimLeft(text, " \t"))
		if line == "" {
			joined.Reset()
			continue
		}
		if rest, more := strings.CutSuffix(line, `\`); more {
			if rest = strings.TrimRight(rest, " \t"); rest != "" {
				joined.WriteString(rest + " ")
			}
			continue
		}
		line = joined.String() + line
		joined.Reset()
		if err := p.parseLine(line, cut, strings.HasSuffix(text, hiddenValue)); err != nil {
			return nil, err
		}
	}
	if last := p.open[len(p.open)-1]; len(p.open) > 1 {
		p.line = last.line
		return nil, p.fault("a section that is not closed; expected a } for it")
	}
	return f, nil
}

func (p *parser) add(s setting) {
	top := p.open[len(p.open)-1]
	top.settings = append(top.settings, s)
}

// uncomment cuts a comment and the blanks at the end off a line. cut: the # had
// no blank before it, so perhaps it was meant to be in the value.
func uncomment(line string) (rest string, cut bool) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case '"', '\'':
			for i++; i < len(line) && line[i] != c; i++ {
				if line[i] == '\\' && i+1 < len(line) {
					i++
				}
			}
		case '#':
			if strings.HasPrefix(line[i:], hiddenPart) {
				i += len(hiddenPart) - 1
				continue
			}
			cut = i > 0 && !blank(line[i-1])
			line = line[:i]
		}
	}
	return strings.TrimRight(line, " \t"), cut
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func (p *parser) parseLine(line string, cut, hidden bool) error {
	if strings.HasPrefix(line, "doveconf: ") {
		return p.fault("a message that doveconf wrote to standard error; expected its standard output alone: doveconf -n 2>/dev/null")
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		end = len(line)
	}
	key, rest := line[:end], strings.TrimLeft(line[end:], " \t")
	switch {
	case key == "!include" || key == "!include_try":
		return p.fault("%s: the rest of the configuration is in other files; expected the output of doveconf -n", key)
	case strings.HasPrefix(rest, "="):
		value := strings.TrimLeft(rest[1:], " \t")
		hidden = hidden || strings.Contains(value, hiddenPart)
		p.add(setting{key, unquote(value), p.line, hidden, cut})
		return nil
	case key == "}" && rest == "":
		if len(p.open) == 1 {
			return p.fault("a } without a section; expected none")
		}
		p.open = p.open[:len(p.open)-1]
		return nil
	}
	return p.begin(key, rest)
}

// begin opens the section `kind rest`, where rest is `{` or `name {`.
func (p *parser) begin(kind, rest string) error {
	name := ""
	switch {
	case strings.HasPrefix(rest, `"`):
		var closed bool
		if name, rest, closed = strings.Cut(rest[1:], `"`); !closed {
			return p.fault(`a section's name without its closing "; expected NAME {`)
		}
		name = unescape(name)
	case !strings.HasPrefix(rest, "{"):
		end := strings.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		name, rest = rest[:end], rest[end:]
	}
	switch rest = strings.TrimLeft(rest, " \t"); {
	case !strings.HasPrefix(rest, "{"):
		return p.fault("neither a setting nor a section; expected `key = value` or `section {`")
	case rest != "{":
		return p.fault("more after the {; expected it at the end of the line")
	case len(p.open) > maxNesting:
		return p.fault("sections nest too deep; expected at most %d levels", maxNesting)
	}
	s := &section{kind: kind, name: name, line: p.line}
	top := p.open[len(p.open)-1]
	top.sections = append(top.sections, s)
	p.open = append(p.open, s)
	return nil
}

// unquote returns a value without the quotes around it.
func unquote(v string) string {
	if n := len(v); n > 0 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
		return unescape(v[1:max(1, n-1)])
	}
	return v
}

// unescape drops each backslash before a byte that it keeps.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				break
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
