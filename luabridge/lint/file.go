package lint

import (
	"github.com/yuin/gopher-lua/ast"
)

// A file is a script's syntax with its names resolved.
type file struct {
	chunk []ast.Stmt
	// vars are the local variables, by each place that names one. What is not in it
	// is a global.
	vars map[*ast.IdentExpr]*variable
	// globals are what the file assigns.
	assigned map[string]*variable
	// reads are the globals that are read, in order.
	reads []*ast.IdentExpr
	// attrs are the fields that are read, assigned those that are written.
	attrs   []*ast.AttrGetExpr
	written map[*ast.AttrGetExpr]bool
	calls   []*ast.FuncCallExpr
	tables  []*ast.TableExpr
	// inFunction has the globals that functions assign, by the place.
	inFunction []*ast.IdentExpr
	// tested are the names that the script asks whether they are there: `name` of a
	// global, `variable.name` of a field.
	tested map[string]bool
	params map[*ast.FunctionExpr][]*variable
}

// A variable is a local variable, a parameter, or a global that the file assigns.
type variable struct {
	name   string
	value  ast.Expr // what it was made with; nil: unknown
	result int      // which result of the call that value is
	writes int      // assignments besides
	each   bool     // of a generic for
}

// fn is the function that a variable holds, or nil.
func (v *variable) fn() *ast.FunctionExpr {
	if v == nil || v.writes > 0 {
		return nil
	}
	f, _ := v.value.(*ast.FunctionExpr)
	return f
}

type scope struct {
	outer *scope
	names map[string]*variable
}

func (s *scope) find(name string) *variable {
	for ; s != nil; s = s.outer {
		if v := s.names[name]; v != nil {
			return v
		}
	}
	return nil
}

// A resolver walks a file once.
type resolver struct {
	*file
	scope *scope
	depth int // functions that it is within
}

func newFile(chunk []ast.Stmt) *file {
	f := &file{
		chunk: chunk, vars: map[*ast.IdentExpr]*variable{}, assigned: map[string]*variable{},
		written: map[*ast.AttrGetExpr]bool{}, tested: map[string]bool{}, params: map[*ast.FunctionExpr][]*variable{},
	}
	r := &resolver{file: f}
	r.block(chunk)
	return f
}

func (r *resolver) block(stmts []ast.Stmt) {
	r.open()
	r.stmts(stmts)
	r.close()
}

func (r *resolver) open()  { r.scope = &scope{outer: r.scope, names: map[string]*variable{}} }
func (r *resolver) close() { r.scope = r.scope.outer }

func (r *resolver) declare(name string, value ast.Expr, result int) *variable {
	v := &variable{name: name, value: value, result: result}
	r.scope.names[name] = v
	return v
}

func (r *resolver) stmts(stmts []ast.Stmt) {
	for _, s := range stmts {
		r.stmt(s)
	}
}

func (r *resolver) stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		r.exprs(s.Rhs)
		for i, l := range s.Lhs {
			r.assign(l, valueAt(s.Rhs, i), len(s.Rhs))
		}
	case *ast.LocalAssignStmt:
		// `local function f` may name itself.
		if len(s.Exprs) == 1 && len(s.Names) == 1 {
			if f, ok := s.Exprs[0].(*ast.FunctionExpr); ok {
				r.declare(s.Names[0], f, 0)
				r.expr(f)
				return
			}
		}
		r.exprs(s.Exprs)
		for i, name := range s.Names {
			value, result := valueAt(s.Exprs, i), 0
			if n := len(s.Exprs); n > 0 && i >= n { // a further result of the last call
				value, result = s.Exprs[n-1], i-n+1
			}
			r.declare(name, value, result)
		}
	case *ast.FuncCallStmt:
		r.expr(s.Expr)
	case *ast.DoBlockStmt:
		r.block(s.Stmts)
	case *ast.WhileStmt:
		r.condition(s.Condition)
		r.block(s.Stmts)
	case *ast.RepeatStmt:
		r.open()
		r.stmts(s.Stmts)
		r.condition(s.Condition)
		r.close()
	case *ast.IfStmt:
		r.condition(s.Condition)
		r.block(s.Then)
		r.block(s.Else)
	case *ast.NumberForStmt:
		r.exprs([]ast.Expr{s.Init, s.Limit, s.Step})
		r.open()
		r.declare(s.Name, nil, 0)
		r.stmts(s.Stmts)
		r.close()
	case *ast.GenericForStmt:
		r.exprs(s.Exprs)
		r.open()
		for _, name := range s.Names {
			r.declare(name, nil, 0).each = true
		}
		r.stmts(s.Stmts)
		r.close()
	case *ast.FuncDefStmt:
		if s.Name.Func != nil {
			r.assign(s.Name.Func, s.Func, 1)
		} else {
			r.expr(s.Name.Receiver)
		}
		r.expr(s.Func)
	case *ast.ReturnStmt:
		r.exprs(s.Exprs)
	}
}

func valueAt(exprs []ast.Expr, i int) ast.Expr {
	if i < len(exprs) {
		return exprs[i]
	}
	return nil
}

// assign is `to = value`; values is how many stand right of the =.
func (r *resolver) assign(to, value ast.Expr, values int) {
	switch to := to.(type) {
	case *ast.IdentExpr:
		if v := r.scope.find(to.Value); v != nil {
			r.vars[to] = v
			v.writes++
			return
		}
		if v := r.assigned[to.Value]; v != nil {
			v.writes++
		} else {
			v := &variable{name: to.Value}
			if values > 0 {
				v.value = value
			}
			r.assigned[to.Value] = v
		}
		if r.depth > 0 {
			r.inFunction = append(r.inFunction, to)
		}
	case *ast.AttrGetExpr:
		r.written[to] = true
		r.expr(to)
	}
}

func (r *resolver) exprs(list []ast.Expr) {
	for _, e := range list {
		r.expr(e)
	}
}

func (r *resolver) expr(e ast.Expr) {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if v := r.scope.find(e.Value); v != nil {
			r.vars[e] = v
		} else {
			r.reads = append(r.reads, e)
		}
	case *ast.AttrGetExpr:
		r.attrs = append(r.attrs, e)
		r.expr(e.Object)
		r.expr(e.Key)
	case *ast.TableExpr:
		r.tables = append(r.tables, e)
		for _, f := range e.Fields {
			r.expr(f.Key)
			r.expr(f.Value)
		}
	case *ast.FuncCallExpr:
		r.calls = append(r.calls, e)
		r.expr(e.Func)
		r.expr(e.Receiver)
		r.exprs(e.Args)
		if id, ok := e.Func.(*ast.IdentExpr); ok && id.Value == "type" && len(e.Args) == 1 {
			r.test(e.Args[0])
		}
	case *ast.LogicalOpExpr:
		r.condition(e)
	case *ast.RelationalOpExpr:
		r.expr(e.Lhs)
		r.expr(e.Rhs)
		if e.Operator == "==" || e.Operator == "~=" {
			r.compared(e.Lhs, e.Rhs)
			r.compared(e.Rhs, e.Lhs)
		}
	case *ast.StringConcatOpExpr:
		r.expr(e.Lhs)
		r.expr(e.Rhs)
	case *ast.ArithmeticOpExpr:
		r.expr(e.Lhs)
		r.expr(e.Rhs)
	case *ast.UnaryMinusOpExpr:
		r.expr(e.Expr)
	case *ast.UnaryNotOpExpr:
		r.condition(e.Expr)
	case *ast.UnaryLenOpExpr:
		r.expr(e.Expr)
	case *ast.FunctionExpr:
		r.depth++
		r.open()
		var params []*variable
		for _, name := range e.ParList.Names {
			params = append(params, r.declare(name, nil, 0))
		}
		r.params[e] = params
		r.stmts(e.Stmts)
		r.close()
		r.depth--
	}
}

// condition is an expression of which only the truth matters, at least in part.
func (r *resolver) condition(e ast.Expr) {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		r.condition(e.Lhs)
		r.condition(e.Rhs)
		return
	case *ast.UnaryNotOpExpr:
		r.condition(e.Expr)
		return
	}
	r.expr(e)
	r.test(e)
}

// compared is an expression that is compared with another: with nil, that asks if it
// is there. What is compared with a text or a number is taken to be there, and so
// is a field that is compared with anything else.
func (r *resolver) compared(e, with ast.Expr) {
	switch with.(type) {
	case *ast.StringExpr, *ast.NumberExpr:
		return
	}
	if _, field := e.(*ast.AttrGetExpr); !field || isNil(with) {
		r.test(e)
	}
}

// test notes that the script asks whether a name is there.
func (r *resolver) test(e ast.Expr) {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if r.scope.find(e.Value) == nil {
			r.tested[e.Value] = true
		}
	case *ast.AttrGetExpr:
		if name := attrName(e); name != "" {
			r.tested[name] = true
		}
	}
}

// attrName is `variable.field`, or "".
func attrName(e *ast.AttrGetExpr) string {
	object, ok := e.Object.(*ast.IdentExpr)
	key, ok2 := e.Key.(*ast.StringExpr)
	if !ok || !ok2 {
		return ""
	}
	return object.Value + "." + key.Value
}

// holds is the variable that an identifier names: a local one, or a global that
// the file assigns; nil otherwise.
func (f *file) holds(e ast.Expr) *variable {
	id, ok := e.(*ast.IdentExpr)
	if !ok {
		return nil
	}
	if v := f.vars[id]; v != nil {
		return v
	}
	return f.assigned[id.Value]
}

// function is the function of the file that a call runs, or nil.
func (f *file) function(c *ast.FuncCallExpr) *ast.FunctionExpr {
	if c.Func == nil {
		return nil
	}
	if fn, ok := c.Func.(*ast.FunctionExpr); ok {
		return fn
	}
	return f.holds(c.Func).fn()
}
