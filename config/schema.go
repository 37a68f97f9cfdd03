package config

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"

	"usher/proxy"
)

// A field is one key of a section.
type field struct {
	name  string
	index int
	tag   reflect.StructTag
	typ   reflect.Type
}

// fields returns the keys of a section in the order of the file.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("yaml"); name != "" {
			out = append(out, field{name, i, f.Tag, f.Type})
		}
	}
	return out
}

// isSection reports whether t has keys of its own.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[proxy.Secret]() &&
		!reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isList reports whether t is a list, of sections or of single values.
func isList(t reflect.Type) bool { return t.Kind() == reflect.Slice }

// leaves visits every key of a section that is not a section itself, however
// deep; a list is one leaf. It is what viper knows of the schema.
func leaves(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	for _, f := range fields(v.Type()) {
		if at := join(path, f.name); isSection(f.typ) {
			leaves(v.Field(f.index), at, visit)
		} else {
			visit(at, v.Field(f.index))
		}
	}
}

// walk visits every key below a section that is not a section itself. A list is
// visited, then the keys of its sections.
func walk(v reflect.Value, path string, visit func(path string, tag reflect.StructTag, v reflect.Value)) {
	for _, f := range fields(v.Type()) {
		at, fv := join(path, f.name), v.Field(f.index)
		if isSection(f.typ) {
			walk(fv, at, visit)
			continue
		}
		visit(at, f.tag, fv)
		if isList(f.typ) && isSection(f.typ.Elem()) {
			for i := range fv.Len() {
				walk(fv.Index(i), item(at, i), visit)
			}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// envName is the variable that overrides a key: director.pool_size is
// USHER_DIRECTOR_POOL_SIZE.
func envName(path string) string {
	return "USHER_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}
