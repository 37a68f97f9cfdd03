package lint

import (
	"github.com/yuin/gopher-lua/ast"
)

// guard says which ways of a condition are taken only when there is no backend to
// go to, or nobody to be routed: that way has nothing to decide.
func (w *walker) guard(e ast.Expr) (then, other bool) {
	switch e := e.(type) {
	case *ast.UnaryNotOpExpr:
		then, other = w.guard(e.Expr)
		return other, then
	case *ast.LogicalOpExpr:
		lt, lo := w.guard(e.Lhs)
		rt, ro := w.guard(e.Rhs)
		if e.Operator == "and" {
			return lt || rt, lo && ro
		}
		return lt && rt, lo || ro
	case *ast.IdentExpr:
		return false, w.server(e) || w.each(e)
	case *ast.FuncCallExpr: // if usher.first(servers) then
		return false, w.picks(e)
	case *ast.AttrGetExpr:
		return w.field(e)
	case *ast.RelationalOpExpr:
		return w.compare(e)
	}
	return false, false
}

// field is a field that stands alone in a condition.
func (w *walker) field(e *ast.AttrGetExpr) (then, other bool) {
	v, key := w.holds(e.Object), ""
	if s, ok := e.Key.(*ast.StringExpr); ok {
		key = s.Value
	}
	switch {
	case v == nil:
		return false, false
	case v.each: // of a server in a loop: others will do
		return false, true
	case !w.requests[v]:
		return false, false
	case key == "authenticated", key == "user_found":
		return false, true
	case key == "no_auth":
		return !w.opt.NoAuth, false
	}
	return false, false
}

// compare is a comparison: with nil, of a number of servers with 0, or of a
// server in a loop with what is wanted.
func (w *walker) compare(e *ast.RelationalOpExpr) (then, other bool) {
	lhs, rhs, op := e.Lhs, e.Rhs, e.Operator
	if _, constant := lhs.(*ast.NumberExpr); constant { // 0 < #servers
		mirror := map[string]string{"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "~=": "~="}
		lhs, rhs, op = rhs, lhs, mirror[op]
	}
	if w.ofEach(lhs) || w.ofEach(rhs) {
		return op == "~=", op == "==" // the next server, please
	}
	switch r := rhs.(type) {
	case *ast.NilExpr:
		none := false
		if c, ok := lhs.(*ast.FuncCallExpr); ok { // next(servers) == nil
			id, isName := c.Func.(*ast.IdentExpr)
			none = isName && id.Value == "next"
		}
		if id, ok := lhs.(*ast.IdentExpr); ok {
			none = w.server(id)
		}
		return none && op == "==", none && op == "~="
	case *ast.TrueExpr, *ast.FalseExpr:
		then, other = w.guard(lhs)
		if _, is := r.(*ast.TrueExpr); is != (op == "==") {
			return other, then
		}
		return then, other
	case *ast.NumberExpr:
		if !w.counts(lhs) {
			return false, false
		}
		switch op + r.Value {
		case "==0", "<1", "<=0":
			return true, false
		case "~=0", ">0", ">=1":
			return false, true
		}
	}
	return false, false
}

// counts reports whether an expression is a number of things: #list,
// table_length(list), or a variable that has such a one, or that counts.
func (w *walker) counts(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.UnaryLenOpExpr:
		return true
	case *ast.FuncCallExpr:
		_, function := w.called(e)
		return function == "table_length"
	case *ast.IdentExpr:
		v := w.holds(e)
		if v == nil || v.value == nil {
			return false
		}
		if _, number := v.value.(*ast.NumberExpr); number {
			return v.writes > 0
		}
		return v.writes == 0 && w.counts(v.value)
	}
	return false
}

// server reports whether a variable is nil only when no backend fits: it has what
// a function that picks one returned, or was left without a value before a loop
// that looks for one.
func (w *walker) server(id *ast.IdentExpr) bool {
	v := w.holds(id)
	if v == nil || v.each {
		return false
	}
	if v.writes > 0 && (v.value == nil || isNil(v.value)) {
		return w.selected[v]
	}
	switch value := v.value.(type) {
	case *ast.FuncCallExpr:
		return v.result == 0 && v.writes == 0 && w.picks(value)
	case *ast.AttrGetExpr: // servers[1]
		_, number := value.Key.(*ast.NumberExpr)
		return v.writes == 0 && (number || w.selected[v])
	case *ast.LogicalOpExpr: // usher.sticky(a) or usher.first(b)
		return v.writes == 0 && w.picksAny(value)
	}
	return false
}

func isNil(e ast.Expr) bool {
	_, ok := e.(*ast.NilExpr)
	return ok
}

func (w *walker) picksAny(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		return w.picksAny(e.Lhs) && w.picksAny(e.Rhs)
	case *ast.FuncCallExpr:
		return w.picks(e)
	}
	return false
}

// picks reports whether a call returns a server, or nil when there is none.
func (w *walker) picks(c *ast.FuncCallExpr) bool {
	module, function := w.called(c)
	if module != "usher" {
		// A function of the file whose result is selected is taken for one.
		return w.linter.function(c) != nil && w.picked[w.linter.function(c)]
	}
	switch function {
	case "sticky", "hash", "first", "random", "round_robin", "least_assigned":
		return true
	}
	return false
}

// each reports whether a variable is one of a generic for.
func (w *walker) each(e ast.Expr) bool {
	v := w.holds(e)
	return v != nil && v.each
}

// ofEach reports whether an expression is a field of a variable of a generic
// for.
func (w *walker) ofEach(e ast.Expr) bool {
	a, ok := e.(*ast.AttrGetExpr)
	return ok && w.each(a.Object)
}

// selections finds the variables that a call of a selecting function has as
// argument, whole or by a field, and the functions of the file that they come
// from.
func (l *linter) selections() (selected map[*variable]bool, picked map[*ast.FunctionExpr]bool) {
	selected, picked = map[*variable]bool{}, map[*ast.FunctionExpr]bool{}
	for _, c := range l.file.calls {
		module, function := l.called(c)
		if module+"."+function != "usher.select" && module+"."+function != "nauthilus_backend.select_backend_server" {
			continue
		}
		for _, a := range c.Args {
			if field, ok := a.(*ast.AttrGetExpr); ok {
				a = field.Object
			}
			v := l.holds(a)
			if v == nil {
				continue
			}
			selected[v] = true
			if call, ok := v.value.(*ast.FuncCallExpr); ok && v.result == 0 {
				if fn := l.function(call); fn != nil {
					picked[fn] = true
				}
			}
		}
	}
	return selected, picked
}
