package lualib

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// maxConstants is how many numbers and texts may stand in a chunk: gopher-lua's
// compiler compares each with all of its function's.
const maxConstants = 20000

// Compile turns Lua source into a prototype. Its errors begin with path:line.
func Compile(path, text string) (*lua.FunctionProto, error) {
	return compile(path, text, func(int) {})
}

// compile calls cost with the number of constants before it compiles them.
func compile(path, text string, cost func(constants int)) (*lua.FunctionProto, error) {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	if strings.HasPrefix(text, "#") { // the line for Unix
		text = "--" + text
	}
	chunk, err := parse.Parse(strings.NewReader(text), path)
	if syntax := (*parse.Error)(nil); errors.As(err, &syntax) {
		if syntax.Pos.Line == parse.EOF {
			return nil, fmt.Errorf("%s:%d: %s at the end of the file", path, strings.Count(text, "\n")+1, syntax.Message)
		}
		return nil, fmt.Errorf("%s:%d: %s near %q", path, syntax.Pos.Line, syntax.Message, syntax.Token)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	line, constants := walk(chunk)
	if line > 0 {
		return nil, fmt.Errorf("%s:%d: nested over %d deep", path, line, maxNesting)
	}
	if constants > maxConstants {
		return nil, fmt.Errorf("%s:1: %d numbers and texts, at most %d: keep long lists in several files", path, constants, maxConstants)
	}
	cost(constants)
	proto, err := lua.Compile(chunk, path)
	if fault := (*lua.CompileError)(nil); errors.As(err, &fault) {
		return nil, fmt.Errorf("%s:%d: %s (in the function that begins there)", path, max(fault.Line, 1), fault.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	prepare(proto)
	// A chunk can't name the table arg, which gopher-lua would make for each run
	// of it: 2.7 KB.
	proto.IsVarArg &^= lua.VarArgNeedsArg
	return proto, nil
}

// maxName is the longest name that is kept for errors and traces, in bytes: a
// trace has a line for each call.
const maxName = 60

// prepare drops long names that a function and those within it keep for errors, and
// makes `return coroutine.yield()` a call like others: as a tail call it cannot be
// resumed in gopher-lua.
func prepare(p *lua.FunctionProto) {
	cut := func(s *string) {
		if len(*s) > maxName { // a part of it could be a part of a secret
			*s = "?"
		}
	}
	for i := range p.DbgCalls {
		call := &p.DbgCalls[i]
		cut(&call.Name)
		const opShift = 26
		if inst := &p.Code[call.Pc]; call.Name == "yield" && int(*inst>>opShift) == lua.OP_TAILCALL {
			*inst = *inst&(1<<opShift-1) | uint32(lua.OP_CALL)<<opShift // its results are returned by the next
		}
	}
	for i := range p.DbgUpvalues {
		cut(&p.DbgUpvalues[i])
	}
	for _, l := range p.DbgLocals {
		cut(&l.Name)
	}
	for _, f := range p.FunctionPrototypes {
		prepare(f)
	}
}
