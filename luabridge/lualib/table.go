package lualib

import (
	"sort"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// OpenTable makes the functions of table out of gopher-lua's, which are right
// and know no budget.
func OpenTable(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	length := func(f lua.LGFunction) lua.LGFunction { // takes a table's length
		return func(L *lua.LState) int {
			budget.Of(L).Len(L, L.CheckTable(1))
			return f(L)
		}
	}
	get := func(name string) lua.LGFunction { return theirs.RawGetString(name).(*lua.LFunction).GFunction }
	return L.SetFuncs(L.CreateTable(0, 6), map[string]lua.LGFunction{
		"concat": tabConcat,
		"getn":   length(get("getn")),
		"maxn":   length(get("maxn")),
		"insert": tabInsert(get("insert")),
		"remove": tabRemove(get("remove")),
		"sort":   tabSort,
	})
}

// tabConcat is table.concat(t [, sep [, i [, j]]]). i and j end with the table.
func tabConcat(L *lua.LState) int {
	t := L.CheckTable(1)
	sep := L.OptString(2, "")
	b := budget.Of(L)
	n := b.Len(L, t)
	from, to := max(optInt(L, 3, 1), 1), min(optInt(L, 4, n), n)
	var out buffer
	for i := from; i <= to; i++ {
		b.Work(L, 1)
		switch v := t.RawGetInt(i).(type) {
		case lua.LString:
			out.add(L, string(v))
		case lua.LNumber:
			out.add(L, v.String())
		default:
			L.RaiseError("invalid value (%s) at index %d in table for concat", v.Type(), i)
		}
		if i < to {
			out.add(L, sep)
		}
	}
	L.Push(lua.LString(out.String()))
	return 1
}

func tabInsert(insert lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		t := L.CheckTable(1)
		b := budget.Of(L)
		if L.GetTop() == 2 {
			b.Len(L, t)
			b.Store(L, t, -1)
			return insert(L)
		}
		if L.GetTop() > 3 {
			L.RaiseError("wrong number of arguments to 'insert'")
		}
		at := 0
		if L.GetTop() == 3 {
			at = L.CheckInt(2)
		}
		b.Store(L, t, at)
		b.Move(L, t, at)
		return insert(L)
	}
}

// tabRemove is table.remove(t [, pos]); what is no position of the list removes
// nothing, where gopher-lua's removes the last.
func tabRemove(remove lua.LGFunction) lua.LGFunction {
	return func(L *lua.LState) int {
		t, b := L.CheckTable(1), budget.Of(L)
		n := b.Len(L, t)
		if n == 0 {
			return 0
		}
		if L.GetTop() > 1 {
			at := checkInt(L, 2)
			if at < 1 || at > n {
				return 0
			}
			L.Replace(2, lua.LNumber(at))
			b.Move(L, t, at)
		}
		return remove(L)
	}
}

// tabSort is table.sort(t [, less]).
func tabSort(L *lua.LState) int {
	t := L.CheckTable(1)
	b := budget.Of(L)
	s := sorter{L: L, budget: b}
	if L.Get(2) != lua.LNil {
		s.less = L.CheckFunction(2)
	}
	n := b.Len(L, t)
	b.Work(L, n/perStep)
	b.Alloc(L, n*valueBytes)
	s.values = make([]lua.LValue, n)
	for i := range s.values {
		s.values[i] = t.RawGetInt(i + 1)
	}
	sort.Sort(&s)
	for i, v := range s.values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

type sorter struct {
	L      *lua.LState
	budget *budget.Budget
	less   *lua.LFunction // nil: by <
	values []lua.LValue
}

func (s *sorter) Len() int { return len(s.values) }

func (s *sorter) Swap(i, j int) { s.values[i], s.values[j] = s.values[j], s.values[i] }

func (s *sorter) Less(i, j int) bool {
	x, y := s.values[i], s.values[j]
	n := 1
	if text, ok := x.(lua.LString); ok {
		n += len(text) / 16
	}
	s.budget.Work(s.L, n)
	if s.less != nil {
		s.L.Push(s.less)
		s.L.Push(x)
		s.L.Push(y)
		s.L.Call(2, 1)
		less := lua.LVAsBool(s.L.Get(-1))
		s.L.Pop(1)
		return less
	}
	return s.L.LessThan(x, y)
}
