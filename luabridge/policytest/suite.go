package policytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/internal/nearest"
	"usher/luabridge/budget"
	"usher/luabridge/lualib"
)

// A suite is one test file on its way.
type suite struct {
	L      *lua.LState
	budget budget.Budget
	ctx    context.Context
	file   string
	used   map[string]bool // scripts that the tests are of

	scope *scope // the present one
	tests []*test

	world     *world // of the test that runs; nil while the file is read
	decisions map[*lua.LTable]*decision
	last      *decision // of the present test
	printed   []string
}

// A scope is a describe, or the file.
type scope struct {
	parent *scope
	name   string
	given  given
	before []*lua.LFunction
}

// A test is an it.
type test struct {
	scope   *scope
	name    string
	run     *lua.LFunction
	pending bool
}

// path are the names from the outermost describe to the test's own.
func (t *test) path() []string {
	names := []string{t.name}
	for sc := t.scope; sc.parent != nil; sc = sc.parent {
		names = append(names, sc.name)
	}
	slices.Reverse(names)
	return names
}

// givens is all that is given at a scope.
func (sc *scope) givens() given {
	if sc.parent == nil {
		return sc.given
	}
	return sc.given.over(sc.parent.givens())
}

func newSuite(file string, used map[string]bool) *suite {
	s := &suite{file: file, used: used, scope: &scope{given: newGiven()}}
	s.budget.Hints = hints{}
	s.L = newLua(&s.budget)
	for name, f := range map[string]lua.LGFunction{
		"describe": s.describe, "it": s.it, "pending": s.pending, "before_each": s.beforeEach, "given": s.give,
		"login": s.login("login"), "lookup": s.login("lookup"), "nginx": s.login("nginx"),
		"expect": s.expect, "advance": s.advance, "redis": s.redis, "print": s.print,
	} {
		s.L.SetGlobal(name, s.L.NewFunction(f))
	}
	missing := s.L.NewTable()
	missing.RawSetString("__index", s.L.NewFunction(s.unknownGlobal))
	s.L.G.Global.Metatable = missing
	mt := s.L.NewTypeMetatable(expectationType)
	mt.RawSetString("__index", s.L.NewFunction(s.method))
	fields := s.L.NewTypeMetatable("usher_decision")
	fields.RawSetString("__index", s.L.NewFunction(func(L *lua.LState) int {
		if name := L.Get(2).String(); !slices.Contains(decisionFields, name) {
			L.RaiseError("%s", unknown("a decision has no", name, decisionFields))
		}
		return 0
	}))
	return s
}

// read runs the file, which says what tests there are.
func (s *suite) read(ctx context.Context, text string) error {
	proto, err := lualib.Compile(s.file, text)
	if err != nil {
		return err
	}
	return s.call(ctx, s.L.NewFunctionFromProto(proto))
}

// run runs one test.
func (s *suite) run(ctx context.Context, t *test) *failure {
	s.scope, s.decisions, s.last, s.printed = t.scope, map[*lua.LTable]*decision{}, nil, nil
	w, err := newWorld(ctx, t.scope.givens())
	if err != nil {
		return &failure{message: err.Error()}
	}
	s.world = w
	defer func() {
		w.close()
		s.world = nil
	}()
	var before []*lua.LFunction
	for sc := t.scope; sc != nil; sc = sc.parent {
		before = append(slices.Clone(sc.before), before...)
	}
	for _, f := range append(before, t.run) {
		if err := s.call(ctx, f); err != nil {
			f := failureOf(err)
			if f.trace == nil && s.last != nil {
				f.trace = s.last.trace
			}
			return f
		}
	}
	return nil
}

// unknownGlobal raises the error of a name that is nothing.
func (s *suite) unknownGlobal(L *lua.LState) int {
	name := L.Get(2).String()
	var known []string
	L.G.Global.ForEach(func(k, _ lua.LValue) { known = append(known, k.String()) })
	slices.Sort(known)
	hint := ""
	if near := nearest.Likely(name, known); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	L.RaiseError("unknown name %q%s", name, hint)
	return 0
}

// outside raises an error when a test runs.
func (s *suite) outside(L *lua.LState, name string) {
	if s.world != nil {
		L.RaiseError("%s stands outside of tests", name)
	}
}

func (s *suite) named(L *lua.LState, function string) (string, *lua.LFunction) {
	s.outside(L, function)
	name, ok := L.Get(1).(lua.LString)
	f, isFunction := L.Get(2).(*lua.LFunction)
	if !ok || !isFunction && (function != "pending" || L.Get(2) != lua.LNil) {
		L.RaiseError("%s: expected a name and a function", function)
	}
	return string(name), f
}

func (s *suite) describe(L *lua.LState) int {
	name, f := s.named(L, "describe")
	s.scope = &scope{parent: s.scope, name: name, given: newGiven()}
	defer func() { s.scope = s.scope.parent }()
	L.Push(f)
	L.Call(0, 0)
	return 0
}

func (s *suite) it(L *lua.LState) int {
	name, f := s.named(L, "it")
	s.tests = append(s.tests, &test{scope: s.scope, name: name, run: f})
	return 0
}

func (s *suite) pending(L *lua.LState) int {
	name, f := s.named(L, "pending")
	s.tests = append(s.tests, &test{scope: s.scope, name: name, run: f, pending: true})
	return 0
}

func (s *suite) beforeEach(L *lua.LState) int {
	s.outside(L, "before_each")
	f, ok := L.Get(1).(*lua.LFunction)
	if !ok {
		L.RaiseError("before_each: expected a function")
	}
	s.scope.before = append(s.scope.before, f)
	return 0
}

func (s *suite) give(L *lua.LState) int {
	t, ok := L.Get(1).(*lua.LTable)
	if !ok {
		L.RaiseError("given: expected a table")
	}
	g, err := s.readGiven(t)
	if err == nil && s.world != nil {
		err = s.world.apply(s.ctx, g.over(s.world.given), g)
	}
	if err != nil {
		L.RaiseError("%s", err)
	}
	if s.world == nil {
		s.scope.given = g.over(s.scope.given)
	}
	return 0
}

func (s *suite) login(kind string) lua.LGFunction {
	return func(L *lua.LState) int {
		s.inside(L, kind)
		t, ok := L.Get(1).(*lua.LTable)
		if !ok {
			L.RaiseError("%s: expected a table like {user = \"alice@example.org\"}", kind)
		}
		r, account, err := readLogin(kind, t)
		if err != nil {
			L.RaiseError("%s", err)
		}
		d, err := s.world.handle(s.ctx, r, account)
		if err != nil {
			L.RaiseError("%s", err)
		}
		result := d.table(L)
		result.Metatable = L.GetTypeMetatable("usher_decision")
		s.decisions[result], s.last = d, d
		L.Push(result)
		return 1
	}
}

func (s *suite) inside(L *lua.LState, name string) {
	if s.world == nil {
		L.RaiseError("%s stands inside of a test: it(\"…\", function() … end)", name)
	}
}

func (s *suite) advance(L *lua.LState) int {
	s.inside(L, "advance")
	n, ok := L.Get(1).(lua.LNumber)
	if !ok || n < 0 || n > 1e9 {
		L.RaiseError("advance: expected seconds")
	}
	s.world.advance(seconds(n))
	return 0
}

func (s *suite) redis(L *lua.LState) int {
	s.inside(L, "redis")
	if s.world.server == nil {
		L.RaiseError("redis: no Redis is given: say given {redis = {}}")
	}
	L.Push(redisValue(L, s.world.server, L.Get(1).String()))
	return 1
}

func (s *suite) print(L *lua.LState) int {
	var words []string
	for i := 1; i <= L.GetTop(); i++ {
		if text, ok := L.Get(i).(lua.LString); ok {
			words = append(words, string(text))
		} else {
			words = append(words, show(L.Get(i)))
		}
	}
	if len(s.printed) < 1000 {
		s.printed = append(s.printed, strings.Join(words, "\t"))
	}
	return 0
}

func (s *suite) expect(L *lua.LState) int {
	ud := &lua.LUserData{Value: &expectation{L.Get(1)}, Metatable: L.GetTypeMetatable(expectationType)}
	L.Push(ud)
	return 1
}

// method returns an expectation's method.
func (s *suite) method(L *lua.LState) int {
	name := L.Get(2).String()
	e, ok := expectations[name]
	if !ok {
		L.RaiseError("%s", unknown("no expectation", name, keys(expectations)))
	}
	L.Push(L.NewFunction(func(L *lua.LState) int {
		ud, _ := L.Get(1).(*lua.LUserData)
		var x *expectation
		if ud != nil {
			x, _ = ud.Value.(*expectation)
		}
		if x == nil {
			L.RaiseError("write expect(…):%s(…), with a colon", name)
		}
		var args []lua.LValue
		for i := 2; i <= L.GetTop(); i++ {
			args = append(args, L.Get(i))
		}
		if len(args) < e.least || len(args) > e.most {
			count := fmt.Sprintf("%d to %d", e.least, e.most)
			if e.least == e.most {
				count = fmt.Sprint(e.least)
			}
			L.RaiseError("%s: expected %s arguments in the brackets, got %d", name, count, len(args))
		}
		message := e.check(s, x.value, args)
		if message == "" {
			return 0
		}
		f := &failure{message: message, where: strings.TrimSuffix(L.Where(1), ": ")}
		f.where = strings.TrimSuffix(f.where, ":")
		if t, ok := x.value.(*lua.LTable); ok && s.decisions[t] != nil {
			f.trace = s.decisions[t].trace
		}
		L.Error(&lua.LUserData{Value: f, Metatable: L.NewTable()}, 0)
		return 0
	}))
	return 1
}

// A Result is what became of one test.
type Result struct {
	File    string   `json:"file"`
	Name    []string `json:"name"`   // from the outermost describe to the test
	Status  string   `json:"status"` // passed, failed, pending
	Where   string   `json:"where,omitempty"`
	Message string   `json:"message,omitempty"`
	Trace   []string `json:"trace,omitempty"` // of the last decision
	Printed []string `json:"printed,omitempty"`
	TookMS  float64  `json:"took_ms"`
}

func (r *Result) fail(f *failure) {
	r.Status, r.Where, r.Message, r.Trace = "failed", f.where, f.message, f.trace
}

// Title is the test's name as people read it.
func (r *Result) Title() string { return strings.Join(r.Name, " › ") }

// runFile runs the tests of a file. What is wrong with the file itself is a
// failure like others.
func runFile(ctx context.Context, file, text string, used map[string]bool) (results []Result) {
	s := newSuite(file, used)
	defer s.L.Close()
	if err := s.read(ctx, text); err != nil {
		r := Result{File: file, Name: []string{"(the file itself)"}}
		r.fail(failureOf(err))
		return []Result{r}
	}
	for _, t := range s.tests {
		if ctx.Err() != nil {
			return results
		}
		began := time.Now()
		r := Result{File: file, Name: t.path(), Status: "passed"}
		if t.pending {
			r.Status = "pending"
		} else if f := s.run(ctx, t); f != nil {
			r.fail(f)
			if r.Where == "" {
				r.Where = fmt.Sprintf("%s:%d", file, t.run.Proto.LineDefined)
			}
		}
		r.Printed = s.printed
		r.TookMS = float64(time.Since(began).Microseconds()) / 1000
		results = append(results, r)
	}
	return results
}
