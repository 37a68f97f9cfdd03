package lint

import (
	"maps"
	"slices"
	"sync"

	"github.com/yuin/gopher-lua/ast"

	"usher/internal/nearest"
	"usher/luabridge"
	"usher/luabridge/modules"
)

// known are the globals that scripts have, and the members of those that are
// tables.
var known = sync.OnceValue(luabridge.Globals)

// entries are the functions that scripts define for usher to call.
var entries = []string{
	entryFilter, "nauthilus_call_feature", "nauthilus_run_hook",
	"nauthilus_backend_verify_password", "nauthilus_backend_list_accounts",
}

// globals warns of globals that are nowhere assigned, and of those that
// functions assign.
func (l *linter) globals() {
	for _, id := range l.reads {
		name := id.Value
		if _, ok := known()[name]; ok || l.assigned[name] != nil || l.tested[name] {
			continue
		}
		if m := modules.Named(name); m != nil {
			l.warn(id.Line(), "the module %s is no global; expected local %s = require(%q)", name, name, name)
			continue
		}
		l.warn(id.Line(), "unknown global %s%s", name, didYouMean(name, slices.Concat(slices.Collect(maps.Keys(known())), slices.Collect(maps.Keys(l.assigned)))))
	}
	for _, id := range l.inFunction {
		if slices.Contains(entries, id.Value) || id.Value == "_" {
			continue
		}
		if _, isFunction := l.assigned[id.Value].value.(*ast.FunctionExpr); isFunction {
			continue
		}
		l.warn(id.Line(), "the global %s is set within a function, and gone with the request; expected local %s", id.Value, id.Value)
	}
}

func didYouMean(name string, names []string) string {
	slices.Sort(names)
	if near := nearest.Likely(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// requests are the variables that hold the request: the entry functions' first
// parameter, and what it is handed to.
func (l *linter) requests() map[*variable]bool {
	requests := map[*variable]bool{}
	mark := func(fn *ast.FunctionExpr, i int) bool {
		params := l.params[fn]
		if i >= len(params) || requests[params[i]] || params[i].writes > 0 {
			return false
		}
		requests[params[i]] = true
		return true
	}
	for _, name := range entries {
		if fn := l.assigned[name].fn(); fn != nil {
			mark(fn, 0)
		}
	}
	is := func(e ast.Expr) bool {
		v := l.holds(e)
		return v != nil && requests[v]
	}
	for changed := true; changed; {
		changed = false
		for _, v := range l.vars {
			if !requests[v] && v.writes == 0 && v.value != nil && v.result == 0 && is(v.value) {
				requests[v], changed = true, true
			}
		}
		for _, c := range l.file.calls {
			fn := l.function(c)
			for i, a := range c.Args {
				if fn != nil && is(a) && mark(fn, i) {
					changed = true
				}
			}
		}
	}
	return requests
}

// fields warns of fields of the request that do not exist, unless the script
// sets them itself.
func (l *linter) fields() {
	requests, fields := l.requests(), modules.RequestFields()
	var own []string
	each := func(visit func(e *ast.AttrGetExpr, name string)) {
		for _, e := range l.attrs {
			key, ok := e.Key.(*ast.StringExpr)
			if v := l.holds(e.Object); ok && v != nil && requests[v] {
				visit(e, key.Value)
			}
		}
	}
	each(func(e *ast.AttrGetExpr, name string) {
		if l.written[e] {
			own = append(own, name)
		}
	})
	each(func(e *ast.AttrGetExpr, name string) {
		if slices.Contains(fields, name) || slices.Contains(own, name) {
			return
		}
		// Who asks for a field that another version may have does so on purpose, unless
		// it looks like one that there is.
		if near := didYouMean(name, fields); near != "" || !l.tested[attrName(e)] {
			l.warn(e.Line(), "the request has no field %s%s", name, near)
		}
	})
}

// module is the name of the module that an expression stands for, or "".
func (l *linter) module(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.IdentExpr:
		v := l.holds(e)
		switch {
		case v == nil:
			if m := modules.Named(e.Value); m != nil && m.Global {
				return e.Value
			}
			if members := known()[e.Value]; members != nil {
				return e.Value
			}
		case v.writes == 0 && v.result == 0 && v.value != nil:
			return l.module(v.value)
		}
	case *ast.FuncCallExpr:
		if name, ok := l.required(e); ok {
			return name
		}
	}
	return ""
}

// required is the module that a call of require names.
func (l *linter) required(c *ast.FuncCallExpr) (name string, ok bool) {
	id, isName := c.Func.(*ast.IdentExpr)
	if !isName || id.Value != "require" || l.holds(id) != nil || len(c.Args) != 1 {
		return "", false
	}
	s, ok := c.Args[0].(*ast.StringExpr)
	if !ok {
		return "", false
	}
	return s.Value, true
}

// called is the module and function that a call names: "", "" for others.
func (l *linter) called(c *ast.FuncCallExpr) (module, function string) {
	if c.Receiver != nil {
		return l.module(c.Receiver), c.Method
	}
	a, ok := c.Func.(*ast.AttrGetExpr)
	if !ok {
		if v := l.holds(c.Func); v != nil && v.writes == 0 && v.result == 0 { // local select = usher.select
			a, ok = v.value.(*ast.AttrGetExpr)
		}
	}
	if !ok {
		return "", ""
	}
	key, ok := a.Key.(*ast.StringExpr)
	if !ok {
		return "", ""
	}
	return l.module(a.Object), key.Value
}

// calls warns of functions and modules that do not exist, and of environment
// variables that are hidden.
func (l *linter) calls() {
	for _, c := range l.file.calls {
		if name, ok := l.required(c); ok {
			l.require(c, name)
			continue
		}
		module, function := l.called(c)
		if module == "" {
			continue
		}
		if members := membersOf(module); members != nil && !slices.Contains(members, function) {
			if !l.asked(c) {
				l.warn(c.Line(), "%s has no function %s%s", module, function, didYouMean(function, members))
			}
			continue
		}
		l.env(c, module, function)
	}
}

// members warns of what is read of a module that does not have it: a constant that
// is misspelled is nil, and as a filter's action that lets everybody in.
func (l *linter) members() {
	called := map[ast.Expr]bool{} // of these calls tells
	for _, c := range l.file.calls {
		called[c.Func] = true
		if v := l.holds(c.Func); v != nil { // local select = usher.select
			called[v.value] = true
		}
	}
	for _, e := range l.attrs {
		key, ok := e.Key.(*ast.StringExpr)
		if !ok || called[e] || l.written[e] || l.tested[attrName(e)] {
			continue
		}
		module := l.module(e.Object)
		if members := membersOf(module); module != "" && members != nil && !slices.Contains(members, key.Value) {
			l.warn(e.Line(), "%s has no %s, it reads as nil%s", module, key.Value, didYouMean(key.Value, members))
		}
	}
}

// asked reports whether the script asks if the function that it calls is there.
func (l *linter) asked(c *ast.FuncCallExpr) bool {
	a, ok := c.Func.(*ast.AttrGetExpr)
	return ok && l.tested[attrName(a)]
}

func (l *linter) require(c *ast.FuncCallExpr, name string) {
	_, isLibrary := known()[name]
	if modules.Named(name) != nil || isLibrary || l.opt.Requires == nil || l.opt.Requires(name) {
		return
	}
	why := modules.Absent(name)
	if why == "" {
		var names []string
		for _, m := range modules.All {
			names = append(names, m.Name)
		}
		why = "there is none, and no file of that name in director.package_path" + didYouMean(name, names)
	}
	l.warn(c.Line(), "module %q: %s", name, why)
}

// membersOf are the names that a module or library has; nil: unknown.
func membersOf(module string) []string {
	m := modules.Named(module)
	if m == nil {
		return known()[module]
	}
	names := []string{} // not nil: some modules are empty
	for _, f := range m.Funcs {
		names = append(names, f.Name)
	}
	for _, v := range m.Values {
		names = append(names, v.Name)
	}
	for _, f := range m.Fields {
		names = append(names, f.Name)
	}
	return names
}

// env warns of variables that director.env does not show.
func (l *linter) env(c *ast.FuncCallExpr, module, function string) {
	if function != "getenv" || module != "os" && module != "nauthilus_util" || len(c.Args) == 0 {
		return
	}
	if s, ok := c.Args[0].(*ast.StringExpr); ok && l.opt.Hidden != nil && l.opt.Hidden(s.Value) {
		l.warn(c.Line(), "the environment variable %s is set, but director.env does not name it: it reads as if it were not", s.Value)
	}
}
