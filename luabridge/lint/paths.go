package lint

import (
	"slices"

	"github.com/yuin/gopher-lua/ast"
)

// A state is what is true of the paths that lead to a place: some of them have
// decided where the login goes, some have not, none is there (0).
type state uint8

const (
	open    state = 1 << iota // nothing is decided yet
	decided                   // a selection, a refusal, a hold, or no need of one
)

// paths warns of paths through the filter that select nothing.
func (l *linter) paths() {
	fn := l.assigned[entryFilter].fn()
	if fn == nil {
		return
	}
	if !slices.ContainsFunc(l.file.calls, l.decides) && !returnsReject(fn.Stmts) {
		l.warn(fn.Line(), "%s selects nothing on any path: every login is told to try later; expected usher.select or nauthilus_backend.select_backend_server", entryFilter)
		return
	}
	w := &walker{linter: l, requests: l.requests(), seen: map[*ast.FunctionExpr]bool{}, report: true, action: true}
	w.selected, w.picked = l.selections()
	if end := w.function(fn); end&open != 0 {
		w.undecided(fn.LastLine())
	}
}

// A walker follows the paths through one function, and through those of the file
// that it calls.
type walker struct {
	*linter
	requests map[*variable]bool
	selected map[*variable]bool         // what is selected somewhere
	picked   map[*ast.FunctionExpr]bool // whose results are
	seen     map[*ast.FunctionExpr]bool // being walked: a recursion adds nothing
	report   bool                       // a return with nothing decided is warned of
	action   bool                       // what the function returns is the filter's action
	returns  state                      // what is true at the returns seen
	breaks   state
	lost     bool // there is a goto: nobody knows
}

func (w *walker) undecided(line int) {
	if !w.lost {
		w.warn(line, "a path selects nothing up to here: such a login is told to try later; expected a selection, usher.deny, usher.hold or usher.tempfail before it")
	}
}

// function returns what is true where the function's end is reached.
func (w *walker) function(fn *ast.FunctionExpr) state { return w.block(fn.Stmts, open) }

// summary is what a call of a function of the file comes to, on all its paths.
// With action what it returns is the filter's action too.
func (w *walker) summary(fn *ast.FunctionExpr, action bool) state {
	if w.seen[fn] {
		return 0
	}
	w.seen[fn] = true
	defer delete(w.seen, fn)
	inner := &walker{linter: w.linter, requests: w.requests, selected: w.selected, picked: w.picked, seen: w.seen, action: action}
	end := inner.function(fn) | inner.returns
	if inner.lost {
		return decided
	}
	return end
}

func (w *walker) block(stmts []ast.Stmt, in state) state {
	for _, s := range stmts {
		if in == 0 {
			break
		}
		in = w.stmt(s, in)
	}
	return in
}

func (w *walker) stmt(s ast.Stmt, in state) state {
	switch s := s.(type) {
	case *ast.AssignStmt:
		return w.exprs(s.Rhs, in)
	case *ast.LocalAssignStmt:
		return w.exprs(s.Exprs, in)
	case *ast.FuncCallStmt:
		return w.expr(s.Expr, in)
	case *ast.DoBlockStmt:
		return w.block(s.Stmts, in)
	case *ast.IfStmt:
		return w.branch(s, in)
	case *ast.WhileStmt:
		return in | w.loop(s.Stmts, w.expr(s.Condition, in))
	case *ast.RepeatStmt:
		return w.loop(s.Stmts, in)
	case *ast.NumberForStmt:
		return in | w.loop(s.Stmts, in)
	case *ast.GenericForStmt:
		// A loop over servers whose body decides leaves it open only where there is
		// no server.
		if out := w.loop(s.Stmts, in); out&open == 0 {
			return decided
		}
		return open | decided
	case *ast.ReturnStmt:
		w.leave(s, w.exprs(s.Exprs, in))
		return 0
	case *ast.BreakStmt:
		w.breaks |= in
		return 0
	case *ast.GotoStmt:
		w.lost = true
		return 0
	}
	return in
}

// loop is one turn of a loop, with what its breaks leave.
func (w *walker) loop(body []ast.Stmt, in state) state {
	outer := w.breaks
	w.breaks = 0
	out := w.block(body, in) | w.breaks
	w.breaks = outer
	return out
}

// leave is a return: of a refusal, of what a function of the file says, or of
// something that nobody knows, nothing is said.
func (w *walker) leave(s *ast.ReturnStmt, in state) {
	if w.action && len(s.Exprs) > 0 {
		switch e := s.Exprs[0].(type) {
		case *ast.TrueExpr, *ast.NumberExpr:
			in = decided
		case *ast.IdentExpr, *ast.LogicalOpExpr, *ast.RelationalOpExpr, *ast.UnaryNotOpExpr:
			in = decided
		case *ast.AttrGetExpr:
			if key, ok := e.Key.(*ast.StringExpr); !ok || key.Value != "FILTER_ACCEPT" {
				in = decided
			}
		case *ast.FuncCallExpr:
			if fn := w.linter.function(e); fn == nil || w.summary(fn, true)&open == 0 {
				in = decided
			}
		}
	}
	w.returns |= in
	if w.report && in&open != 0 {
		w.undecided(s.Line())
	}
}

// branch is an if. Where one of its ways is only taken when no backend is there,
// or when nobody is to be routed, nothing has to be decided on it.
func (w *walker) branch(s *ast.IfStmt, in state) state {
	in = w.expr(s.Condition, in)
	thenFree, elseFree := w.guard(s.Condition)
	then, other := in, in
	if thenFree {
		then = decided
	}
	if elseFree {
		other = decided
	}
	return w.block(s.Then, then) | w.block(s.Else, other)
}

func (w *walker) exprs(list []ast.Expr, in state) state {
	for _, e := range list {
		in = w.expr(e, in)
	}
	return in
}

// expr follows the calls in an expression.
func (w *walker) expr(e ast.Expr, in state) state {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		in = w.exprs(e.Args, in)
		if w.decides(e) {
			return decided
		}
		fn, called := w.linter.function(e), e.Func
		if e.Receiver != nil {
			called = &ast.AttrGetExpr{Object: e.Receiver, Key: &ast.StringExpr{Value: e.Method}}
		}
		if id, ok := e.Func.(*ast.IdentExpr); ok && (id.Value == "pcall" || id.Value == "xpcall") && len(e.Args) > 0 {
			called = e.Args[0]
			if fn, _ = e.Args[0].(*ast.FunctionExpr); fn == nil {
				fn = w.holds(e.Args[0]).fn()
			}
		}
		if fn == nil && w.unknown(called) {
			return decided
		}
		if fn == nil {
			return in
		}
		said := w.summary(fn, false)
		if said == 0 { // it never comes back
			return in
		}
		if said&open == 0 {
			return decided
		}
		return in | said&decided
	case *ast.LogicalOpExpr:
		in = w.expr(e.Lhs, in)
		return in | w.expr(e.Rhs, in)
	case *ast.RelationalOpExpr:
		return w.expr(e.Rhs, w.expr(e.Lhs, in))
	case *ast.StringConcatOpExpr:
		return w.expr(e.Rhs, w.expr(e.Lhs, in))
	case *ast.ArithmeticOpExpr:
		return w.expr(e.Rhs, w.expr(e.Lhs, in))
	case *ast.UnaryNotOpExpr:
		return w.expr(e.Expr, in)
	case *ast.UnaryLenOpExpr:
		return w.expr(e.Expr, in)
	case *ast.AttrGetExpr:
		return w.expr(e.Object, in)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			in = w.expr(f.Value, in)
		}
	}
	return in
}

// unknown reports whether a call is of a function that nobody finds without running
// the script: of a table or file of the site's own, or that a variable holds. It
// is given the benefit of the doubt.
func (l *linter) unknown(called ast.Expr) bool {
	switch e := called.(type) {
	case *ast.IdentExpr:
		v := l.holds(e)
		if v == nil {
			return false
		}
		a, ok := v.value.(*ast.AttrGetExpr) // local select = usher.select
		return !ok || l.module(a.Object) == ""
	case *ast.AttrGetExpr:
		if module := l.module(e.Object); module != "" {
			return membersOf(module) == nil
		}
		v := l.holds(e.Object)
		if v == nil {
			return false
		}
		_, table := v.value.(*ast.TableExpr)
		return table
	}
	return false
}

// decides reports whether a call says where the login goes, or that it goes
// nowhere.
func (l *linter) decides(c *ast.FuncCallExpr) bool {
	if id, ok := c.Func.(*ast.IdentExpr); ok && id.Value == "error" {
		return true
	}
	switch module, function := l.called(c); module {
	case "nauthilus_backend":
		return function == "select_backend_server" || function == "apply_backend_result" && l.namesHost()
	case "usher":
		switch function {
		case "select", "deny", "hold", "tempfail":
			return true
		}
	}
	return false
}

// namesHost reports whether an attribute that counts as the host stands anywhere
// in the file.
func (l *linter) namesHost() bool {
	found := false
	visit := func(e ast.Expr) {
		if s, ok := e.(*ast.StringExpr); ok && slices.Contains(l.opt.HostAttributes, s.Value) {
			found = true
		}
	}
	for _, a := range l.attrs {
		if l.written[a] {
			visit(a.Key)
		}
	}
	for _, t := range l.tables {
		for _, f := range t.Fields {
			visit(f.Key)
		}
	}
	return found
}

func returnsReject(stmts []ast.Stmt) bool {
	found := false
	var walk func([]ast.Stmt)
	walk = func(stmts []ast.Stmt) {
		for _, s := range stmts {
			switch s := s.(type) {
			case *ast.ReturnStmt:
				if len(s.Exprs) == 0 {
					continue
				}
				switch e := s.Exprs[0].(type) {
				case *ast.FalseExpr, *ast.NilExpr:
				case *ast.AttrGetExpr:
					key, ok := e.Key.(*ast.StringExpr)
					found = found || !ok || key.Value != "FILTER_ACCEPT"
				default:
					found = true
				}
			case *ast.DoBlockStmt:
				walk(s.Stmts)
			case *ast.IfStmt:
				walk(s.Then)
				walk(s.Else)
			case *ast.WhileStmt:
				walk(s.Stmts)
			case *ast.RepeatStmt:
				walk(s.Stmts)
			case *ast.NumberForStmt:
				walk(s.Stmts)
			case *ast.GenericForStmt:
				walk(s.Stmts)
			}
		}
	}
	walk(stmts)
	return found
}
