package budget

import (
	lua "github.com/yuin/gopher-lua"
)

// What Go functions do with tables, besides Work and Alloc.

// Len is the length of a table, and takes the steps of finding it.
func (b *Budget) Len(L *lua.LState, t *lua.LTable) int {
	if n := lenWork(tableOf(t)); n > 0 {
		b.Work(L, n)
	}
	return t.Len()
}

// Store takes what storing into t is going to need; at is the array's element
// that is stored, if it is one. Metamethods are not asked.
func (b *Budget) Store(L *lua.LState, t *lua.LTable, at int) {
	target := tableOf(t)
	filled, stop := b.fill(target, float64(at))
	if stop || b.note(target, filled) {
		b.raise(L)
	}
}

// Move takes the steps of moving the elements of an array that stand behind
// one.
func (b *Budget) Move(L *lua.LState, t *lua.LTable, at int) {
	if n := len(tableOf(t).array) - at; n > movedPerStep {
		b.Work(L, n/movedPerStep)
	}
}

// Next is the key after k, and its value, and takes the steps of finding them:
// gopher-lua walks over what is nil or was deleted.
func (b *Budget) Next(L *lua.LState, tb *lua.LTable, k lua.LValue) (key, value lua.LValue) {
	key, value = tb.Next(k)
	t, passed := tableOf(tb), 0
	if from, ok := t.slot(k); ok || k == lua.LNil {
		to, ok := t.slot(key)
		if !ok {
			to = len(t.array)
		}
		passed = to - from
	}
	if len(t.keys) > len(t.dict)+len(t.strdict) {
		passed += t.place(key, len(t.keys)) - t.place(k, 0)
	}
	if passed > scannedPerStep {
		b.Work(L, passed/scannedPerStep)
	}
	return key, value
}

// slot is the place in the array that a key stands for.
func (t *table) slot(k lua.LValue) (int, bool) {
	n, ok := k.(lua.LNumber)
	return int(n), ok && n > 0 && int(n) <= len(t.array)
}

// place is the place of a key among those that stand in no array.
func (t *table) place(k lua.LValue, none int) int {
	if i, ok := t.k2i[k]; ok {
		return i
	}
	return none
}
