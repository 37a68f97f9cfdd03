package modules

import (
	"fmt"
	"math"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// inspectModule is inspect, which prints as inspect.lua 3.1 does.
var inspectModule = Module{
	Name: "inspect",
	Doc:  "Shows values to people. The module can be called like its one function: `inspect(value)`. Tables are nested 100 deep at most.",
	Funcs: []Func{
		{Name: "inspect", Do: inspectDo,
			Sig:     `(value: any, options?: {depth?: number, newline?: string, indent?: string, process?: fun(item: any, path: table): any}) -> text: string`,
			Doc:     "A value as text: lists in a line, other keys sorted and one a line. Tables below `depth` are `{...}`. `process` is called for each value and key, and what it returns is shown instead; nil leaves it out.",
			Example: "local inspect = require(\"inspect\")\nprint(inspect({1, \"a\"})) --> { 1, \"a\" }\nprint(inspect.inspect({a = {b = 1}}, {newline = \"\", indent = \"\"})) --> {a = {b = 1}}"},
	},
	Values: []Value{ // made anew in each state, by Finish
		{Name: "KEY", Value: lua.LNil, Doc: "Stands last in the path of a key that `process` is called for."},
		{Name: "METATABLE", Value: lua.LNil, Doc: "Stands in the path of a metatable that `process` is called for."},
	},
	Finish: func(L *lua.LState, t *lua.LTable) {
		t.RawSetString("KEY", inspectMark(L, "inspect.KEY"))
		t.RawSetString("METATABLE", inspectMark(L, "inspect.METATABLE"))
		do, key, meta := t.RawGetString("inspect"), t.RawGetString("KEY"), t.RawGetString("METATABLE")
		f := L.NewClosure(inspectDo, key, meta)
		mt := Sealed(L, nil)
		mt.RawSetString("__call", L.NewClosure(func(L *lua.LState) int {
			L.Remove(1)
			return inspectDo(L)
		}, key, meta))
		if do != lua.LNil {
			t.RawSetString("inspect", f)
		}
		t.Metatable = mt
	},
}

// inspectMark stands in paths for what is no key.
func inspectMark(L *lua.LState, name string) *lua.LUserData {
	mark := constant(L, name, nil)
	mark.Metatable.(*lua.LTable).RawSetString("__tostring", L.NewFunction(func(L *lua.LState) int {
		L.Push(lua.LString(name))
		return 1
	}))
	return mark
}

const maxInspectDepth = 100

// An inspector writes one value.
type inspector struct {
	L               *lua.LState
	out             strings.Builder
	depth           float64
	newline, indent string
	process         *lua.LFunction
	key, metatable  lua.LValue // marks

	seen map[*lua.LTable]int // how often each table stands in it
	ids  map[lua.LValue]int
	last map[lua.LValueType]int
	made map[lua.LValue]lua.LValue // by process
}

func inspectDo(L *lua.LState) int {
	p := &inspector{
		L: L, depth: math.Inf(1), newline: "\n", indent: "  ", key: L.Get(lua.UpvalueIndex(1)), metatable: L.Get(lua.UpvalueIndex(2)),
		seen: map[*lua.LTable]int{}, ids: map[lua.LValue]int{}, last: map[lua.LValueType]int{}, made: map[lua.LValue]lua.LValue{},
	}
	take(L, 50, 1024)
	root := L.Get(1)
	switch options := L.Get(2).(type) {
	case *lua.LNilType:
	case *lua.LTable:
		p.options(options)
	default:
		argError(L, 2, "inspect", "table")
	}
	if p.process != nil {
		root = p.processed(root, nil)
	}
	p.count(root, 0)
	p.value(root, 0)
	L.Push(lua.LString(p.out.String()))
	return 1
}

// options reads the options. As in the original false is as good as none.
func (p *inspector) options(t *lua.LTable) {
	wrong := func(name, expected string) {
		p.L.RaiseError("inspect: the option %s must be a %s", name, expected)
	}
	read := func(name, expected string, set func(lua.LValue) bool) {
		if v := t.RawGetString(name); lua.LVAsBool(v) && !set(v) {
			wrong(name, expected)
		}
	}
	text := func(to *string) func(lua.LValue) bool {
		return func(v lua.LValue) bool {
			s, ok := v.(lua.LString)
			*to = string(s)
			return ok
		}
	}
	read("depth", "number", func(v lua.LValue) bool {
		n, ok := v.(lua.LNumber)
		p.depth = float64(n)
		return ok
	})
	read("newline", "string", text(&p.newline))
	read("indent", "string", text(&p.indent))
	read("process", "function", func(v lua.LValue) (ok bool) {
		p.process, ok = v.(*lua.LFunction)
		return ok
	})
}

func (p *inspector) tooDeep(depth int) {
	if depth > maxInspectDepth {
		p.L.RaiseError("inspect: nested over %d deep", maxInspectDepth)
	}
}

// meta is the metatable as getmetatable shows it, if that is a table.
func (p *inspector) meta(t *lua.LTable) *lua.LTable {
	mt, ok := t.Metatable.(*lua.LTable)
	if !ok {
		return nil
	}
	if shown := mt.RawGetString("__metatable"); shown != lua.LNil {
		mt, _ = shown.(*lua.LTable)
	}
	return mt
}

// count counts how often each table stands in v.
func (p *inspector) count(v lua.LValue, depth int) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return
	}
	take(p.L, 5, 64)
	if p.seen[t]++; p.seen[t] > 1 {
		return
	}
	p.tooDeep(depth)
	CallOf(p.L).Fill(p.L, t)
	each(p.L, t, func(k, v lua.LValue) {
		p.count(k, depth+1)
		p.count(v, depth+1)
	})
	if mt := p.meta(t); mt != nil {
		p.count(mt, depth+1)
	}
}

// processed is what the option process makes of a value that stands at path.
func (p *inspector) processed(v lua.LValue, path []lua.LValue) lua.LValue {
	if v == lua.LNil {
		return v
	}
	if s, ok := v.(lua.LString); ok {
		take(p.L, len(s)/256, 0) // it is hashed
	}
	if made, ok := p.made[v]; ok {
		return made
	}
	p.tooDeep(len(path))
	take(p.L, 20+len(path), 256+64*len(path))
	where := p.L.CreateTable(len(path), 0)
	for _, k := range path {
		where.Append(k)
	}
	p.L.Push(p.process)
	p.L.Push(v)
	p.L.Push(where)
	p.L.Call(2, 1)
	out := p.L.Get(-1)
	p.L.Pop(1)
	t, ok := out.(*lua.LTable)
	if !ok {
		return out
	}
	CallOf(p.L).Fill(p.L, t)
	made := p.L.CreateTable(0, 0)
	p.made[v] = made
	at := func(more ...lua.LValue) []lua.LValue { return append(slices.Clone(path), more...) }
	each(p.L, t, func(k, v lua.LValue) {
		take(p.L, 5, 256)
		if key := p.processed(k, at(k, p.key)); key != lua.LNil {
			if n, ok := key.(lua.LNumber); ok && n != n {
				p.L.RaiseError("inspect: process made a key that is no number")
			}
			p.L.RawSet(made, key, p.processed(v, at(key)))
		}
	})
	if mt := p.meta(t); mt != nil {
		if mt, ok := p.processed(mt, at(p.metatable)).(*lua.LTable); ok {
			made.Metatable = mt
		}
	}
	return made
}

func (p *inspector) puts(s string) {
	take(p.L, 1+len(s)/64, 2*len(s))
	p.out.WriteString(s)
}

func (p *inspector) line(level int) {
	p.puts(p.newline)
	for range level {
		p.puts(p.indent)
	}
}

func (p *inspector) id(v lua.LValue) int {
	id, ok := p.ids[v]
	if !ok {
		take(p.L, 5, 64)
		p.last[v.Type()]++
		id = p.last[v.Type()]
		p.ids[v] = id
	}
	return id
}

func (p *inspector) value(v lua.LValue, level int) {
	switch v := v.(type) {
	case lua.LString:
		take(p.L, 1+len(v)/4, 4*len(v))
		p.puts(quoted(string(v)))
	case *lua.LNilType, lua.LBool, lua.LNumber:
		p.puts(v.String())
	case *lua.LTable:
		p.table(v, level)
	default:
		switch v {
		case p.key:
			p.puts("inspect.KEY")
			return
		case p.metatable:
			p.puts("inspect.METATABLE")
			return
		}
		p.puts(fmt.Sprintf("<%s %d>", v.Type(), p.id(v)))
	}
}

func (p *inspector) table(t *lua.LTable, level int) {
	switch _, known := p.ids[t]; {
	case known:
		p.puts(fmt.Sprintf("<table %d>", p.id(t)))
		return
	case float64(level) >= p.depth:
		p.puts("{...}")
		return
	}
	if p.seen[t] > 1 {
		p.puts(fmt.Sprintf("<%d>", p.id(t)))
	}
	length := 0
	for t.RawGetInt(length+1) != lua.LNil {
		take(p.L, 1, 0)
		length++
	}
	keys, mt := p.keys(t, length), p.meta(t)
	p.puts("{")
	comma := ""
	for i := 1; i <= length; i++ {
		p.puts(comma + " ")
		comma = ","
		p.value(t.RawGetInt(i), level+1)
	}
	for _, k := range keys {
		p.puts(comma)
		comma = ","
		p.line(level + 1)
		if s, ok := k.(lua.LString); ok && isName(string(s)) {
			p.puts(string(s))
		} else {
			p.puts("[")
			p.value(k, level+1)
			p.puts("]")
		}
		p.puts(" = ")
		p.value(p.L.RawGet(t, k), level+1)
	}
	if mt != nil {
		p.puts(comma)
		p.line(level + 1)
		p.puts("<metatable> = ")
		p.value(mt, level+1)
	}
	if len(keys) > 0 || mt != nil {
		p.line(level)
	} else if length > 0 {
		p.puts(" ")
	}
	p.puts("}")
}

// inspectOrder is how kinds of keys are sorted.
var inspectOrder = []lua.LValueType{lua.LTNumber, lua.LTBool, lua.LTString, lua.LTTable, lua.LTFunction, lua.LTUserData, lua.LTThread}

// keys are the keys but 1 to length, sorted.
func (p *inspector) keys(t *lua.LTable, length int) []lua.LValue {
	var keys []lua.LValue
	each(p.L, t, func(k, _ lua.LValue) {
		if n, ok := k.(lua.LNumber); ok && n >= 1 && n <= lua.LNumber(length) && n == lua.LNumber(math.Trunc(float64(n))) {
			return
		}
		take(p.L, 10, 32)
		keys = append(keys, k)
	})
	slices.SortStableFunc(keys, func(a, b lua.LValue) int {
		if order := slices.Index(inspectOrder, a.Type()) - slices.Index(inspectOrder, b.Type()); order != 0 {
			return order
		}
		switch a := a.(type) {
		case lua.LNumber:
			return int(math.Copysign(1, float64(a-b.(lua.LNumber))))
		case lua.LString:
			return strings.Compare(string(a), string(b.(lua.LString)))
		}
		return 0
	})
	return keys
}

// isName reports whether a text can stand as a key without brackets.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// quoted is a text in quotes, in those that it has not.
func quoted(s string) string {
	var b strings.Builder
	quote := byte('"')
	if strings.Contains(s, `"`) && !strings.Contains(s, "'") {
		quote = '\''
	}
	b.WriteByte(quote)
	for i := range len(s) {
		c := s[i]
		digit := i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9'
		switch {
		case c == '\\' || c == '"' && quote == '"':
			b.Write([]byte{'\\', c})
		case c >= 7 && c <= 13:
			b.Write([]byte{'\\', "abtnvfr"[c-7]})
		case c < 32 && digit:
			fmt.Fprintf(&b, `\%03d`, c)
		case c < 32:
			fmt.Fprintf(&b, `\%d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte(quote)
	return b.String()
}
