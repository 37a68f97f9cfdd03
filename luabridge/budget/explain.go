package budget

import (
	"fmt"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Hints knows what a script may have meant by a name that is not there.
type Hints interface {
	// Missing is asked when name was looked up in, and is nil in, a table, a
	// text, a userdata, or, with of nil, the globals. It returns what `of` is
	// called, and the nearest name that it has; "" where it doesn't know.
	Missing(of lua.LValue, name string) (owner, nearest string)
	// Shown is a text without what is secret in it, shortened.
	Shown(text string, most int) string
}

// maxShown is how much of a value an error shows, in bytes.
const maxShown = 60

// fail stops the thread before an instruction that would fail, with a better
// text than gopher-lua's.
func (b *Budget) fail(format string, args ...any) bool {
	b.err = fmt.Errorf(format, args...)
	return true
}

// meta returns a metamethod of a value that is no text.
func meta(v lua.LValue, event string) lua.LValue {
	var mt lua.LValue
	switch v := v.(type) {
	case *lua.LTable:
		mt = v.Metatable
	case *lua.LUserData:
		mt = v.Metatable
	}
	if mt, ok := mt.(*lua.LTable); ok {
		return mt.RawGetString(event)
	}
	return lua.LNil
}

// cannotIndex explains `v.key` of what has no fields.
func (t *Thread) cannotIndex(f *frame, v lua.LValue, reg, key int) bool {
	switch v.(type) {
	case lua.LString, *lua.LUserData:
		return false // they have methods, or gopher-lua says no
	}
	return t.failIndex(f, v, reg, key)
}

// cannotStore explains `v.key = x` of what takes none.
func (t *Thread) cannotStore(f *frame, v lua.LValue, reg, key int) bool {
	if meta(v, "__newindex") != lua.LNil {
		return false
	}
	return t.failIndex(f, v, reg, key)
}

func (t *Thread) failIndex(f *frame, v lua.LValue, reg, key int) bool {
	what, hint := t.named(f, reg, v)
	var k lua.LValue
	if key&constRK != 0 {
		k = f.Fn.Proto.Constants[key&^constRK]
	} else {
		k = t.reg.array[f.LocalBase+key]
	}
	return t.budget.fail("attempt to index %s with key %s%s", what, t.budget.Show(k), hint)
}

func (t *Thread) cannotMeasure(f *frame, v lua.LValue, reg int) bool {
	if meta(v, "__len") != lua.LNil {
		return false
	}
	what, hint := t.named(f, reg, v)
	return t.budget.fail("attempt to get the length of %s%s", what, hint)
}

func (t *Thread) cannotIterate(v lua.LValue) bool {
	if _, ok := meta(v, "__call").(*lua.LFunction); ok {
		return false
	}
	return t.budget.fail("attempt to loop over %s; expected pairs(t), ipairs(t) or another iterator", t.budget.Describe(v))
}

// cannotCalculate explains arithmetic on what is no number. Texts that are
// numbers will do, and take their time to be read.
func (t *Thread) cannotCalculate(f *frame, x, y lua.LValue, regX, regY int) bool {
	if handles(x, y, "__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm") {
		return false
	}
	for _, o := range [...]struct {
		v   lua.LValue
		reg int
	}{{x, regX}, {y, regY}} {
		switch v := o.v.(type) {
		case lua.LNumber:
		case lua.LString:
			if len(v) > maxNumber || !isNumber(string(v)) {
				what, hint := t.named(f, o.reg, v)
				return t.budget.fail("attempt to perform arithmetic on %s%s", what, hint)
			}
		default:
			what, hint := t.named(f, o.reg, v)
			return t.budget.fail("attempt to perform arithmetic on %s%s", what, hint)
		}
	}
	return false
}

// maxNumber is the longest text that is read as a number, in bytes: reading a
// long one takes time and memory for nothing.
const maxNumber = 200

// isNumber is what gopher-lua's parseNumber takes.
func isNumber(s string) bool {
	s = strings.Trim(s, " \t\n")
	_, err := strconv.ParseInt(s, 0, lua.LNumberBit)
	if err != nil {
		_, err = strconv.ParseFloat(s, lua.LNumberBit)
	}
	return err == nil
}

// cannotConcat explains `..` of v, which is neither text nor number.
func (t *Thread) cannotConcat(f *frame, v lua.LValue, values []lua.LValue, reg int) bool {
	for _, o := range values {
		if meta(o, "__concat") != lua.LNil {
			return false
		}
	}
	what, hint := t.named(f, reg, v)
	return t.budget.fail("attempt to concatenate %s%s", what, hint)
}

// handles reports whether one of the values has one of the metamethods.
func handles(x, y lua.LValue, events ...string) bool {
	for _, event := range events {
		if meta(x, event) != lua.LNil || meta(y, event) != lua.LNil {
			return true
		}
	}
	return false
}

// cannotCall explains a call of what is no function.
func (t *Thread) cannotCall(f *frame, v lua.LValue, reg int) bool {
	if _, ok := meta(v, "__call").(*lua.LFunction); ok {
		return false
	}
	if v == lua.LNil {
		s := t.origin(f, reg, f.Pc-1)
		if s.of != nil {
			if owner, nearest := t.missing(s.of, s.name); owner != "" {
				return t.budget.fail("attempt to call %s, which %s has not%s", s.name, owner, didYouMean(nearest))
			}
		}
	}
	what, hint := t.named(f, reg, v)
	return t.budget.fail("attempt to call %s%s", what, hint)
}

// missing asks for hints. They take time, which a script that catches its errors
// could do again and again.
func (t *Thread) missing(of lua.LValue, name string) (owner, nearest string) {
	const hintSteps = 5000
	if t.budget.Hints == nil || len(name) > maxShown {
		return "", ""
	}
	t.budget.steps -= hintSteps
	return t.budget.Hints.Missing(of, name)
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return "; did you mean " + name + "?"
}

// named is what a register or constant holds, with the name that the script has
// for it, and a hint when the name is one that nobody has.
func (t *Thread) named(f *frame, reg int, v lua.LValue) (what, hint string) {
	if reg&constRK != 0 {
		return t.budget.Describe(v), ""
	}
	s := t.origin(f, reg, f.Pc-1)
	if s.kind == "" {
		return t.budget.Describe(v), ""
	}
	what = fmt.Sprintf("%s %s (%s)", s.kind, s.name, t.budget.Describe(v))
	if v != lua.LNil {
		return what, ""
	}
	switch s.kind {
	case "global":
		_, nearest := t.missing(nil, s.name)
		hint = didYouMean(nearest)
	case "field":
		if s.of != nil {
			_, nearest := t.missing(s.of, s.name)
			hint = didYouMean(nearest)
		}
	}
	return what, hint
}

// A source is where a value came from.
type source struct {
	kind string // local, global, upvalue, field, method; "": unknown
	name string
	of   lua.LValue // of a field or method: whose; nil: unknown
}

// origin finds out where the value of a register came from, as far as the code
// before pc tells: from what wrote it last. gopher-lua's own table of local
// variables has their beginnings right, and not their ends.
func (t *Thread) origin(f *frame, reg, pc int) source {
	p := f.Fn.Proto
	for i := pc - 1; i >= 0; i-- {
		inst := p.Code[i]
		op, A, B, C := int(inst>>opShift), int(inst>>18&maskA), int(inst&maskBC), int(inst>>9&maskBC)
		last := A // of the registers that it writes
		switch op {
		case lua.OP_SETTABLE, lua.OP_SETTABLEKS, lua.OP_SETGLOBAL, lua.OP_SETUPVAL, lua.OP_TEST, lua.OP_EQ, lua.OP_LT, lua.OP_LE,
			lua.OP_JMP, lua.OP_RETURN, lua.OP_SETLIST, lua.OP_CLOSE, lua.OP_NOP:
			continue // none
		case lua.OP_LOADNIL:
			last = B
		case lua.OP_CALL:
			last = A + C - 2
		case lua.OP_SELF:
			last = A + 1
		case lua.OP_FORLOOP, lua.OP_FORPREP, lua.OP_TFORLOOP:
			last = A + 3 + C
		}
		if reg < A || reg > last {
			continue
		}
		if jumpedOver(p, i, pc) {
			return source{}
		}
		begin := i + 1
		if op == lua.OP_NEWTABLE || op == lua.OP_CLOSURE { // its elements or variables come first
			begin = nextLocal(p, begin, pc)
		}
		if name := localAt(p, begin, reg-A); name != "" {
			return source{kind: "local", name: name}
		}
		switch {
		case op == lua.OP_GETGLOBAL:
			return source{kind: "global", name: text(p, int(inst&maskBx))}
		case op == lua.OP_GETUPVAL && B < len(p.DbgUpvalues):
			return source{kind: "upvalue", name: p.DbgUpvalues[B]}
		case op == lua.OP_MOVE:
			return t.origin(f, B, i)
		case op == lua.OP_GETTABLEKS:
			return source{"field", text(p, C&^constRK), t.value(f, B, i)}
		case op == lua.OP_SELF && reg == A:
			return source{"method", text(p, C&^constRK), t.reg.array[f.LocalBase+reg+1]}
		}
		return source{}
	}
	if reg < int(p.NumParameters) && reg < len(p.DbgLocals) {
		return source{kind: "local", name: p.DbgLocals[reg].Name}
	}
	return source{}
}

// nextLocal is where the first local variable begins that begins at pc or behind
// it, but not behind most; else pc.
func nextLocal(p *lua.FunctionProto, pc, most int) int {
	for _, l := range p.DbgLocals {
		if pc <= l.StartPc && l.StartPc <= most {
			return l.StartPc
		}
	}
	return pc
}

// localAt is the nth local variable of those that begin at pc, or "".
func localAt(p *lua.FunctionProto, pc, n int) string {
	for _, l := range p.DbgLocals {
		switch {
		case l.StartPc != pc || strings.HasPrefix(l.Name, "("):
		case n == 0:
			return l.Name
		default:
			n--
		}
	}
	return ""
}

// jumpedOver reports whether a jump before an instruction leads behind it, but
// not behind pc: then it may not have run.
func jumpedOver(p *lua.FunctionProto, at, pc int) bool {
	for i, inst := range p.Code[:at] {
		if int(inst>>opShift) != lua.OP_JMP {
			continue
		}
		if to := i + 1 + int(inst&maskBx) - maskBx>>1; at < to && to <= pc {
			return true
		}
	}
	return false
}

// value is what a register held at pc, if it can still be told.
func (t *Thread) value(f *frame, reg, pc int) lua.LValue {
	switch s := t.origin(f, reg, pc); s.kind {
	case "local":
		return t.reg.array[f.LocalBase+reg]
	case "global":
		return f.Fn.Env.RawGetString(s.name)
	case "upvalue":
		for i, name := range f.Fn.Proto.DbgUpvalues {
			if name == s.name && i < len(f.Fn.Upvalues) {
				return f.Fn.Upvalues[i].Value()
			}
		}
	}
	return nil
}

// text is a name that stands in a function, if it is short: a part of it could
// be a part of a secret.
func text(p *lua.FunctionProto, k int) string {
	if k >= len(p.Constants) {
		return "?"
	}
	if s := p.Constants[k].String(); len(s) <= maxShown {
		return s
	}
	return "?"
}

// Describe is a value as an error text has it: what it is, and what it says.
func (b *Budget) Describe(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString, lua.LNumber, lua.LBool:
		return v.Type().String() + " " + b.Show(v)
	}
	return "a " + v.Type().String() + " value"
}

// Show is a value as an error text has it: a text in quotes, without what is
// secret in it, and shortened.
func (b *Budget) Show(v lua.LValue) string {
	s, ok := v.(lua.LString)
	switch {
	case !ok:
		return v.String()
	case b.Hints == nil:
		return v.Type().String()
	}
	short := b.Hints.Shown(string(s), maxShown)
	if len(s) > maxShown {
		return strconv.Quote(short) + "..."
	}
	return strconv.Quote(short)
}
