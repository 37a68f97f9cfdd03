package budget

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// What things take of memory, in bytes, measured with Go 1.26; see TestCosts.
const (
	tableBytes   = 96   // an empty table
	slotBytes    = 32   // an element of its array: the value, and its number
	hashBytes    = 320  // the first key
	lateBytes    = 2300 // the first text as key, of a table that was made as {}
	keyBytes     = 220  // each further key: it stands in two maps and a list
	closureBytes = 64   // a function
	upvalueBytes = 56   // each variable that it keeps
	stringBytes  = 24   // a text, besides its bytes
)

// How much one step does, in bytes or elements.
const (
	copiedPerStep   = 64  // bytes that are copied
	hashedPerStep   = 256 // bytes that are hashed, or compared for equality
	comparedPerStep = 16  // bytes that are compared for order, or read as a number
	scannedPerStep  = 16  // values that are looked at
	movedPerStep    = 64  // values that are moved together
)

// maxTailCalls is how many tail calls of one frame are remembered for traces.
const maxTailCalls = 20

const (
	opShift = 26
	maskA   = 0xff
	maskBC  = 0x1ff
	maskBx  = 0x3ffff
	constRK = 1 << 8 // of B and C: a constant, not a register
)

// watched has a bit for each instruction that may take more than a few bytes or
// nanoseconds, or fail in a way that we can explain better.
const watched uint64 = 1<<lua.OP_GETTABLE | 1<<lua.OP_GETTABLEKS | 1<<lua.OP_SELF |
	1<<lua.OP_SETTABLE | 1<<lua.OP_SETTABLEKS | 1<<lua.OP_NEWTABLE | 1<<lua.OP_SETLIST |
	1<<lua.OP_ADD | 1<<lua.OP_SUB | 1<<lua.OP_MUL | 1<<lua.OP_DIV | 1<<lua.OP_MOD | 1<<lua.OP_POW | 1<<lua.OP_UNM |
	1<<lua.OP_LEN | 1<<lua.OP_CONCAT | 1<<lua.OP_EQ | 1<<lua.OP_LT | 1<<lua.OP_LE |
	1<<lua.OP_CALL | 1<<lua.OP_TAILCALL | 1<<lua.OP_TFORLOOP | 1<<lua.OP_CLOSURE | 1<<lua.OP_VARARG

// stop takes what the instruction needs from the budget. It reports whether the
// thread is to stop before it: because the budget is used up, or because the
// instruction would fail and err explains it.
func (t *Thread) stop(f *frame, inst uint32) bool {
	b := t.budget
	r := t.reg.array[f.LocalBase:]
	A, B, C := int(inst>>18&maskA), int(inst&maskBC), int(inst>>9&maskBC)
	switch int(inst >> opShift) {
	case lua.OP_GETTABLEKS, lua.OP_SELF:
		if _, ok := r[B].(*lua.LTable); !ok {
			return t.cannotIndex(f, r[B], B, C)
		}

	case lua.OP_GETTABLE:
		if _, ok := r[B].(*lua.LTable); !ok && t.cannotIndex(f, r[B], B, C) {
			return true
		}
		if s, ok := rk(f, r, C).(lua.LString); ok && len(s) > hashedPerStep {
			return b.work(len(s) / hashedPerStep)
		}

	case lua.OP_SETTABLEKS:
		tb, ok := r[A].(*lua.LTable)
		if !ok {
			return t.cannotStore(f, r[A], A, B)
		}
		return b.store(tb)

	case lua.OP_SETTABLE:
		tb, ok := r[A].(*lua.LTable)
		if !ok {
			return t.cannotStore(f, r[A], A, B)
		}
		switch key := rk(f, r, B).(type) {
		case lua.LNumber:
			return b.storeAt(tb, float64(key))
		case lua.LString:
			if len(key) > hashedPerStep && b.work(len(key)/hashedPerStep) {
				return true
			}
		}
		return b.store(tb)

	case lua.OP_NEWTABLE:
		n := tableBytes // of its elements SETLIST knows
		if C > 0 {
			n += hashBytes + (C-1)*keyBytes
		}
		return b.take(n)

	case lua.OP_SETLIST:
		n := B
		if B == 0 {
			n = t.reg.top - (f.LocalBase + A) - 1
		}
		if tb, ok := r[A].(*lua.LTable); ok && (b.take(n*slotBytes) || b.note(tableOf(tb), n)) {
			return true
		}
		return n > scannedPerStep && b.work(n/scannedPerStep)

	case lua.OP_ADD, lua.OP_SUB, lua.OP_MUL, lua.OP_DIV, lua.OP_MOD, lua.OP_POW:
		x, y := rk(f, r, B), rk(f, r, C)
		_, okX := x.(lua.LNumber)
		_, okY := y.(lua.LNumber)
		if okX && okY {
			return false
		}
		return t.cannotCalculate(f, x, y, B, C)

	case lua.OP_UNM:
		x := rk(f, r, B)
		if _, ok := x.(lua.LNumber); !ok {
			return t.cannotCalculate(f, x, x, B, B)
		}

	case lua.OP_LEN:
		switch v := rk(f, r, B).(type) {
		case lua.LString:
		case *lua.LTable:
			if n := lenWork(tableOf(v)); n > 0 {
				return b.work(n)
			}
		default:
			return t.cannotMeasure(f, v, B)
		}

	case lua.OP_CONCAT:
		return t.concat(f, r[B:C+1], B)

	case lua.OP_EQ:
		if x, ok := rk(f, r, B).(lua.LString); ok && len(x) > hashedPerStep {
			return b.work(len(x) / hashedPerStep)
		}

	case lua.OP_LT, lua.OP_LE:
		if x, ok := rk(f, r, B).(lua.LString); ok && len(x) > comparedPerStep {
			return b.work(len(x) / comparedPerStep)
		}

	case lua.OP_CALL:
		if _, ok := r[A].(*lua.LFunction); !ok {
			return t.cannotCall(f, r[A], A)
		}

	case lua.OP_TAILCALL:
		fn, ok := r[A].(*lua.LFunction)
		if !ok {
			if t.cannotCall(f, r[A], A) {
				return true
			}
			fn = meta(r[A], "__call").(*lua.LFunction)
		}
		// A trace has a line for each tail call.
		f.TailCall = min(f.TailCall, maxTailCalls)
		// gopher-lua has lost the line by the time that it finds the stack full.
		if !fn.IsG {
			args := B
			if B == 0 {
				args = t.reg.top - (f.LocalBase + A)
			}
			need := f.LocalBase + A + 2*args + int(fn.Proto.NumParameters) + int(fn.Proto.NumUsedRegisters) + 4
			if need >= t.reg.maxSize {
				return b.fail("registry overflow")
			}
		}

	case lua.OP_TFORLOOP:
		if _, ok := r[A].(*lua.LFunction); !ok {
			return t.cannotIterate(r[A])
		}

	case lua.OP_CLOSURE:
		n := int(f.Fn.Proto.FunctionPrototypes[inst&maskBx].NumUpvalues)
		// Each variable is looked for among all of the stack that functions keep.
		if n > 0 && f.LocalBase > 4*scannedPerStep && b.work(n*f.LocalBase/(4*scannedPerStep)) {
			return true
		}
		return b.take(closureBytes + upvalueBytes*n)

	case lua.OP_VARARG:
		if n := f.NArgs - int(f.Fn.Proto.NumParameters); n > scannedPerStep {
			if B == 0 && f.LocalBase+A+n+spare > t.reg.maxSize {
				return b.fail("registry overflow")
			}
			return b.work(n / scannedPerStep)
		}
	}
	return false
}

// rk is what an instruction's B or C stands for.
func rk(f *frame, r []lua.LValue, x int) lua.LValue {
	if x&constRK != 0 {
		return f.Fn.Proto.Constants[x&^constRK]
	}
	return r[x]
}

// work takes steps and reports whether to stop.
func (b *Budget) work(n int) bool {
	b.steps -= n
	return b.steps < b.alarm && b.look()
}

// concat takes what the text of `a .. b .. c` will need.
func (t *Thread) concat(f *frame, values []lua.LValue, reg int) bool {
	n := 0
	for i, v := range values {
		switch v := v.(type) {
		case lua.LString:
			n += len(v)
		case lua.LNumber:
			n += stringBytes
		default:
			if t.cannotConcat(f, v, values, reg+i) {
				return true
			}
			// What __concat returns is joined to the rest. No text is longer than
			// the most that was taken at once.
			if len(values) > 2 {
				n += t.budget.largest
			}
		}
	}
	if t.budget.take(n + stringBytes + 16*len(values)) {
		return true
	}
	return n > copiedPerStep && t.budget.work(n/copiedPerStep)
}

// storeAt is store for a number as key. One beyond the array's end makes
// gopher-lua fill the array up to it.
func (b *Budget) storeAt(tb *lua.LTable, key float64) bool {
	target, ok := destination(tb)
	if !ok {
		return false
	}
	filled, stop := b.fill(target, key)
	return stop || b.note(target, filled)
}

// fill takes what the nils between an array's end and a new element need.
func (b *Budget) fill(t *table, key float64) (filled int, stop bool) {
	gap := key - float64(len(t.array)) - 1
	if !(gap > 0 && key < float64(lua.MaxArrayIndex) && key == math.Trunc(key)) {
		return 0, false
	}
	filled = int(gap)
	return filled, b.take(filled*slotBytes) || b.work(filled/scannedPerStep)
}

// store takes what the table that was stored into before has grown by, and
// notes this one: what it grows by is known after the store.
func (b *Budget) store(tb *lua.LTable) bool {
	target, ok := destination(tb)
	if !ok {
		return false
	}
	return b.note(target, 0)
}

// note is store's; filled elements of the array were taken before.
func (b *Budget) note(t *table, filled int) bool {
	stop := b.last != nil && b.settle()
	b.last, b.lastKeys, b.lastCap, b.lastHash = t, len(t.keys), cap(t.array)+filled, t.strdict != nil
	return stop
}

// settle takes what the table last stored into has grown by.
func (b *Budget) settle() bool {
	t, n := b.last, 0
	if grown := len(t.keys) - b.lastKeys; grown > 0 {
		n = grown * keyBytes
		if b.lastKeys == 0 {
			n += hashBytes
		}
		if !b.lastHash && t.strdict != nil {
			n += lateBytes
		}
	}
	if grown := cap(t.array) - b.lastCap; grown > 0 {
		n += grown * slotBytes
	}
	return n > 0 && b.take(n)
}

// destination is the table that a store into tb ends in, and false where it
// ends in a function.
func destination(tb *lua.LTable) (*table, bool) {
	for range lua.MaxTableGetLoop {
		mt, ok := tb.Metatable.(*lua.LTable)
		if !ok {
			break
		}
		switch next := mt.RawGetString("__newindex").(type) {
		case *lua.LTable:
			tb = next
			continue
		case *lua.LFunction:
			return nil, false
		}
		break
	}
	return tableOf(tb), true
}

// lenWork is how many steps it takes to find the length of a table: gopher-lua
// walks back over what is nil at the end of its array.
func lenWork(t *table) int {
	if n := len(t.array); n > scannedPerStep && t.array[n-1] == lua.LNil {
		return n / scannedPerStep
	}
	return 0
}
