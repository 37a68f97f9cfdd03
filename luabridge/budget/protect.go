package budget

import (
	lua "github.com/yuin/gopher-lua"
)

// PCall calls a function, which lies below its nargs arguments on the stack, and
// leaves its results or returns its error, as L.PCall does. There an error that is
// caught parts every function that still runs from the variables that closures
// share with it, and makes a trace of all calls. Here the variables of the calls
// that end are closed, no others, and there is no trace.
func PCall(L *lua.LState, nargs int) error {
	L.Insert(protected, -nargs-1) // which may find the stack full: nothing is noted yet
	t := ThreadOf(L)
	base, outer, depth := t.reg.top-nargs-2, t.base, t.protected
	t.base, t.protected = base, depth+1
	*t.keepOpen = true
	err := L.PCall(nargs+1, lua.MultRet, nil)
	t.base, t.protected = outer, depth // whatever calls within this one left
	*t.keepOpen = depth > 0            // PCall has cleared it
	if err != nil {
		t.closeFrom(base) // of a panic of Go's, which passed raised
	}
	return err
}

// protected runs what PCall was given, with our end for errors. It has no
// environment and no variables: all states share it.
var protected = &lua.LFunction{IsG: true, GFunction: func(L *lua.LState) int {
	L.Panic = raised
	L.Call(L.GetTop()-1, lua.MultRet)
	return L.GetTop()
}}

// raised is called where an error is raised, with its value on the stack, before
// any call has ended.
func raised(L *lua.LState) {
	t := ThreadOf(L)
	v := L.Get(-1)
	t.closeFrom(t.base)
	panic(&lua.ApiError{Type: lua.ApiErrorRun, Object: v, StackTrace: "none"})
}

// closeFrom lets the closures keep the variables that lie at base and above on
// the stack, which others will use.
func (t *Thread) closeFrom(base int) {
	at := t.open
	for *at != nil && (*at).index < base {
		at = &(*at).next
	}
	uv := *at
	*at = nil
	for ; uv != nil; uv = uv.next {
		uv.value, uv.closed = t.reg.array[uv.index], true
		if uv.value == nil { // it was taken off the stack before
			uv.value = lua.LNil
		}
	}
}
