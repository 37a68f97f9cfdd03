package reference

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"usher/luabridge/modules"
)

// A function is one of the tables' with its signatures read.
type function struct {
	*modules.Func
	full  string // as it is called: module.name or type:name
	sig   Sig
	forms []Sig
}

// A typ is a type of userdata or table.
type typ struct {
	*modules.Type
	fields  []modules.Field
	methods []function
}

// A module is one of the tables' with its signatures read.
type module struct {
	*modules.Module
	funcs  []function
	fields []modules.Field
	types  []typ
}

// A reference is all that is documented, in the order of the documents.
type reference struct {
	entries []function
	globals []function
	request []typ
	modules []module
	known   map[string]bool // names of types
	faults  []string
}

// read reads the tables. What is wrong in them is in faults.
func read() *reference {
	r := &reference{known: map[string]bool{}}
	request := modules.RequestTypes()
	for _, t := range request {
		r.known[t.Name] = true
	}
	all := slices.Clone(modules.All)
	slices.SortStableFunc(all, func(a, b *modules.Module) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	for _, m := range all {
		for _, t := range m.Types {
			if r.known[t.Name] {
				r.fault("two types are named %s", t.Name)
			}
			r.known[t.Name] = true
		}
	}
	r.entries = r.functions("", modules.Entries)
	r.globals = r.functions("", modules.Globals)
	for i := range request {
		r.request = append(r.request, r.typ(&request[i]))
	}
	for _, m := range all {
		mod := module{Module: m, funcs: r.functions(m.Name+".", m.Funcs), fields: r.fields(m.Name, m.Fields)}
		if m.Doc == "" {
			r.fault("%s: no Doc", m.Name)
		}
		for i := range m.Types {
			mod.types = append(mod.types, r.typ(&m.Types[i]))
		}
		r.modules = append(r.modules, mod)
	}
	return r
}

// rank: our own module, Nauthilus', then the others.
func rank(m *modules.Module) int {
	switch {
	case m.Name == "usher":
		return 0
	case strings.HasPrefix(m.Name, "nauthilus_"):
		return 1
	}
	return 2
}

func (r *reference) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *reference) isType(name string) bool { return r.known[name] }

func (r *reference) functions(prefix string, list []modules.Func) []function {
	funcs := make([]function, 0, len(list))
	for i := range list {
		f := function{Func: &list[i], full: prefix + list[i].Name}
		f.sig = r.sig(f.full, f.Sig)
		for _, form := range f.Forms {
			f.forms = append(f.forms, r.sig(f.full, form))
		}
		if f.Doc == "" {
			r.fault("%s: no Doc", f.full)
		}
		if f.Example == "" {
			r.fault("%s: no Example", f.full)
		}
		funcs = append(funcs, f)
	}
	return funcs
}

func (r *reference) sig(full, text string) Sig {
	if text == "" {
		r.fault("%s: no Sig", full)
		return Sig{}
	}
	sig, err := ParseSig(text, r.isType)
	if err != nil {
		r.fault("%s: Sig %v", full, err)
	}
	return sig
}

func (r *reference) typ(t *modules.Type) typ {
	if t.Doc == "" {
		r.fault("type %s: no Doc", t.Name)
	}
	return typ{Type: t, methods: r.functions(t.Name+":", t.Methods), fields: r.fields(t.Name, t.Fields)}
}

func (r *reference) fields(of string, list []modules.Field) []modules.Field {
	list = slices.Clone(list)
	for i, f := range list {
		if f.Doc == "" {
			r.fault("%s.%s: no Doc", of, f.Name)
		}
		written, err := parseType(f.Type, r.isType)
		if err != nil {
			r.fault("%s.%s: Type %v", of, f.Name, err)
		}
		list[i].Type = written
	}
	return list
}

// Faults are what is missing or wrong in the tables, a line each.
func Faults() []string { return read().faults }

// wrap breaks a paragraph at spaces into lines of at most width characters, each
// behind prefix. A line may be longer: by a word without an end, or by one that
// would begin a list or a heading.
func wrap(text, prefix string, width int) string {
	var b strings.Builder
	n := 0
	for word := range strings.FieldsSeq(text) {
		w := len([]rune(word))
		switch {
		case n == 0:
			b.WriteString(prefix)
		case n+1+w > width && !strings.ContainsAny(word[:1], "-+*#>=|0123456789"):
			b.WriteString("\n" + prefix)
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += w
	}
	if n > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}
