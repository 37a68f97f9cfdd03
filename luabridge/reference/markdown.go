package reference

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/modules"
)

const width = 125 // of a line of text, in characters

const introduction = `# Lua API

All that policies have besides Lua 5.1 itself; how they run is in [lua.md](lua.md). This page is written by ` + "`make generate`" + ` from
the same tables that make the API; editors get it from [scripts/types](../scripts/types). Every example runs in the tests: what it
prints stands behind ` + "`-->`" + `, for the user alice@example.org, an imap login from 192.0.2.7, with the backends 192.0.2.11 and 192.0.2.12.

Signatures are written as the language server LuaLS has them: ` + "`name?: type`" + ` may be left out, a result of ` + "`type?`" + ` may be nil, and
` + "`...`" + ` is any number. A wrong type of argument raises an error; what fails outside is returned, as nil and a text.
`

// Markdown is docs/lua-api.md.
func Markdown() string {
	r := read()
	b := &strings.Builder{}
	b.WriteString(introduction)
	b.WriteString("\n## Contents\n\n")
	contents(b, "Functions that scripts define", r.entries)
	fmt.Fprintf(b, "- [request](#request): %d fields\n", len(r.request[0].fields))
	contents(b, "Globals", r.globals)
	for _, m := range r.modules {
		contents(b, m.Name, m.all())
	}
	b.WriteString("\n## Functions that scripts define\n")
	functions(b, r.entries)
	b.WriteString("\n## request\n")
	for i := range r.request {
		r.request[i].write(b)
	}
	b.WriteString("\n## Globals\n\n" + wrap("Of Lua 5.1's own globals these differ, or are Nauthilus'.", "", width))
	functions(b, r.globals)
	for i := range r.modules {
		r.modules[i].write(b)
	}
	return b.String()
}

// all are the module's functions and methods.
func (m *module) all() []function {
	list := m.funcs
	for _, t := range m.types {
		list = append(list[:len(list):len(list)], t.methods...)
	}
	return list
}

func contents(b *strings.Builder, heading string, funcs []function) {
	line := fmt.Sprintf("[%s](#%s)", heading, anchor(heading))
	for i, f := range funcs {
		if i == 0 {
			line += ":"
		}
		name := f.Name
		if of, _, method := strings.Cut(f.full, ":"); method {
			name = f.full
			if of == heading {
				name = ":" + f.Name
			}
		}
		line += fmt.Sprintf(" [%s](#%s)", name, anchor(f.full))
	}
	b.WriteString(strings.TrimSuffix(strings.Replace(wrap(line, "  ", width), "  ", "- ", 1), "\n") + "\n")
}

// anchor is what GitHub and others make of a heading.
func anchor(heading string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '_' || c == '-' || c < 0x80 && wordByte(byte(c)):
			return c
		}
		return -1
	}, strings.ToLower(heading))
}

func (m *module) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", m.Name)
	had := fmt.Sprintf("`require(\"%s\")`. ", m.Name)
	if m.Global {
		had = fmt.Sprintf("`require(\"%s\")`, or the global `%s`. ", m.Name, m.Name)
	}
	b.WriteString(wrap(had+m.Doc, "", width))
	values(b, m.Values)
	fields(b, m.fields)
	functions(b, m.funcs)
	for i := range m.types {
		m.types[i].write(b)
	}
}

// values writes those that need words into a table, and the others into a line.
func values(b *strings.Builder, list []modules.Value) {
	var plain []string
	head := "\n| value | | |\n|---|---|---|\n"
	for _, v := range list {
		if v.Doc == "" {
			plain = append(plain, fmt.Sprintf("`%s` %s", v.Name, literal(v.Value)))
			continue
		}
		fmt.Fprintf(b, "%s| `%s` | `%s` | %s |\n", head, v.Name, literal(v.Value), cell(v.Doc))
		head = ""
	}
	if len(plain) > 0 {
		b.WriteString("\n" + wrap("Constants: "+strings.Join(plain, ", ")+".", "", width))
	}
}

func (t *typ) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n### Type %s\n\n%s", t.Name, wrap(t.Doc, "", width))
	fields(b, t.fields)
	functions(b, t.methods)
}

func fields(b *strings.Builder, list []modules.Field) {
	if len(list) > 0 {
		b.WriteString("\n| field | type | |\n|---|---|---|\n")
	}
	for _, f := range list {
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", f.Name, cell(f.Type), cell(f.Doc))
	}
}

func functions(b *strings.Builder, funcs []function) {
	for _, f := range funcs {
		fmt.Fprintf(b, "\n### %s\n\n```\n%s%s\n", f.full, f.full, f.sig)
		for _, form := range f.forms {
			fmt.Fprintf(b, "%s%s\n", f.full, form)
		}
		fmt.Fprintf(b, "```\n\n%s", wrap(f.Doc, "", width))
		fmt.Fprintf(b, "\n```lua\n%s\n```\n", strings.TrimSpace(f.Example))
	}
}

// cell is a text within a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// literal is a constant as Lua has it.
func literal(v lua.LValue) string {
	if s, ok := v.(lua.LString); ok {
		return fmt.Sprintf("%q", string(s))
	}
	return v.String()
}
