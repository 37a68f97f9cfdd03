package reference

import (
	"fmt"
	"slices"
	"strings"

	"usher/luabridge/modules"
)

// Types are the files of scripts/types, by name: annotations for LuaLS, one file a
// module, one for what is in none.
func Types() map[string]string {
	r := read()
	files := map[string]string{"policy.lua": r.policy()}
	for i := range r.modules {
		files[r.modules[i].Name+".lua"] = r.modules[i].annotations()
	}
	return files
}

// meta begins a file. A name is what the file can be required by, `_` that it
// cannot be.
func meta(name string) *strings.Builder {
	b := &strings.Builder{}
	fmt.Fprintf(b, "---@meta %s\n-- Written by make generate: do not edit.\n", name)
	return b
}

// luaHas are the functions that LuaLS knows by itself.
var luaHas = []string{"print", "require"}

// policy is what is in no module: the request, globals, and the functions that
// scripts define.
func (r *reference) policy() string {
	b := meta("_")
	for i := range r.request {
		r.request[i].annotations(b)
	}
	for _, f := range append(slices.Clone(r.globals), r.entries...) {
		if !slices.Contains(luaHas, f.Name) {
			f.annotations(b, f.Name)
		}
	}
	return b.String()
}

func (m *module) annotations() string {
	b := meta(m.Name)
	for i := range m.types {
		m.types[i].annotations(b)
	}
	local := ""
	if !m.Global {
		local = "local "
	}
	fmt.Fprintf(b, "\n%s---@class %slib\n", comment(m.Doc), m.Name)
	fieldLines(b, m.fields)
	fmt.Fprintf(b, "%s%s = {}\n", local, m.Name)
	for _, v := range m.Values {
		fmt.Fprintf(b, "\n%s%s.%s = %s\n", comment(v.Doc), m.Name, v.Name, literal(v.Value))
	}
	for _, f := range m.funcs {
		f.annotations(b, f.full)
	}
	fmt.Fprintf(b, "\nreturn %s\n", m.Name)
	return b.String()
}

func fieldLines(b *strings.Builder, list []modules.Field) {
	for _, f := range list {
		fmt.Fprintf(b, "---@field %s %s %s\n", f.Name, f.Type, f.Doc)
	}
}

func (t *typ) annotations(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s---@class %s\n", comment(t.Doc), t.Name)
	fieldLines(b, t.fields)
	if len(t.methods) == 0 {
		return
	}
	if t.Call != nil { // it is called like its first method
		sig := t.methods[0].sig
		fmt.Fprintf(b, "---@operator call(%s): %s\n", sig.Params[0].Type, sig.Results[0].Type)
	}
	methods := strings.ReplaceAll(t.Name, ".", "_") + "_methods"
	fmt.Fprintf(b, "local %s = {}\n", methods)
	for _, f := range t.methods {
		f.annotations(b, methods+":"+f.Name)
	}
}

// annotations writes an empty function of that name, and what is known of it.
func (f *function) annotations(b *strings.Builder, name string) {
	fmt.Fprintf(b, "\n%s---\n---```lua\n", comment(f.Doc))
	for line := range strings.SplitSeq(strings.TrimSpace(f.Example), "\n") {
		b.WriteString("---" + line + "\n")
	}
	b.WriteString("---```\n")
	names := make([]string, len(f.sig.Params))
	for i, p := range f.sig.Params {
		names[i] = p.Name
		fmt.Fprintf(b, "---@param %s%s %s\n", p.Name, map[bool]string{true: "?"}[p.Optional], p.Type)
	}
	for _, p := range f.sig.Results {
		fmt.Fprintf(b, "---@return %s %s\n", p.Type, p.Name)
	}
	of, _, method := strings.Cut(f.full, ":")
	for _, form := range f.forms {
		if method { // which an overload has no colon for
			form.Params = append([]Param{{Name: "self", Type: of}}, form.Params...)
		}
		fmt.Fprintf(b, "---@overload %s\n", form.fun())
	}
	fmt.Fprintf(b, "function %s(%s) end\n", name, strings.Join(names, ", "))
}

func comment(doc string) string { return wrap(doc, "---", width-3) }
