package budget

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// What stands here is how gopher-lua v1.1.2 lays out its frames, stacks and
// tables, of which it shows only a part. It is read; written are a frame's count of tail
// calls, and in protect.go which variables are closed. A fork
// would be the other way to know the next instruction and the size of a table.
// Layout tells when another version has another layout, and then nothing runs.

// frame is lua.callFrame.
type frame struct {
	Idx        int
	Fn         *lua.LFunction
	Parent     *frame
	Pc         int
	Base       int
	LocalBase  int
	ReturnBase int
	NArgs      int
	NRet       int
	TailCall   int
}

// registry is the beginning of lua.registry.
type registry struct {
	array   []lua.LValue
	top     int
	_       int // growBy
	maxSize int
}

// table is lua.LTable.
type table struct {
	Metatable lua.LValue
	array     []lua.LValue
	dict      map[lua.LValue]lua.LValue
	strdict   map[string]lua.LValue
	keys      []lua.LValue // of dict and strdict, also those that were deleted
	k2i       map[lua.LValue]int
}

// upvalue is lua.Upvalue: a variable that closures keep, on the stack while its
// function runs, else its own.
type upvalue struct {
	next   *upvalue
	_      *registry // reg
	index  int
	value  lua.LValue
	closed bool
}

var (
	stateType = reflect.TypeFor[lua.LState]()
	frameAt   = offset("currentFrame")
	regAt     = offset("reg")
	openAt    = offset("uvcache")
	keepAt    = offset("hasErrorFunc")
)

func offset(name string) uintptr {
	f, _ := stateType.FieldByName(name)
	return f.Offset
}

func frameOf(L *lua.LState) **frame { return (**frame)(unsafe.Add(unsafe.Pointer(L), frameAt)) }

func openOf(L *lua.LState) **upvalue { return (**upvalue)(unsafe.Add(unsafe.Pointer(L), openAt)) }

func keepOf(L *lua.LState) *bool { return (*bool)(unsafe.Add(unsafe.Pointer(L), keepAt)) }

func registryOf(L *lua.LState) *registry {
	return *(**registry)(unsafe.Add(unsafe.Pointer(L), regAt))
}

func tableOf(t *lua.LTable) *table { return (*table)(unsafe.Pointer(t)) }

// Layout returns nil where gopher-lua's frames, stacks and tables are as this
// package takes them to be.
func Layout() error { return layoutFault }

var layoutFault = func() error {
	for _, c := range []struct {
		field string
		ours  reflect.Type
	}{{"currentFrame", reflect.TypeFor[frame]()}, {"reg", reflect.TypeFor[registry]()}, {"uvcache", reflect.TypeFor[upvalue]()}} {
		f, ok := stateType.FieldByName(c.field)
		if !ok || f.Type.Kind() != reflect.Pointer {
			return fmt.Errorf("budget: gopher-lua's LState has no pointer %s", c.field)
		}
		if err := sameLayout(f.Type.Elem(), c.ours); err != nil {
			return err
		}
	}
	if f, ok := stateType.FieldByName("hasErrorFunc"); !ok || f.Type.Kind() != reflect.Bool {
		return errors.New("budget: gopher-lua's LState has no hasErrorFunc")
	}
	return sameLayout(reflect.TypeFor[lua.LTable](), reflect.TypeFor[table]())
}()

// sameLayout compares the fields that ours has. A pointer to a struct that
// gopher-lua keeps to itself is like any other pointer.
func sameLayout(theirs, ours reflect.Type) error {
	for i := range ours.NumField() {
		o := ours.Field(i)
		if o.Name == "_" {
			continue
		}
		t, ok := theirs.FieldByName(o.Name)
		same := ok && t.Offset == o.Offset &&
			(t.Type == o.Type || t.Type.Kind() == reflect.Pointer && o.Type.Kind() == reflect.Pointer)
		if !same {
			return fmt.Errorf("budget: gopher-lua's %s.%s is not what it was", theirs, o.Name)
		}
	}
	return nil
}
