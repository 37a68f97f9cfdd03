package lualib

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// Compile turns Lua source into a prototype. Its errors begin with path:line.
func Compile(path, text string) (*lua.FunctionProto, error) {
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
	if line := tooDeep(chunk); line > 0 {
		return nil, fmt.Errorf("%s:%d: nested over %d deep", path, line, maxNesting)
	}
	proto, err := lua.Compile(chunk, path)
	if fault := (*lua.CompileError)(nil); errors.As(err, &fault) {
		return nil, fmt.Errorf("%s:%d: %s", path, fault.Line, fault.Message)
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

// maxName is how much of a name is kept for errors and traces, in bytes. A trace
// has a line for each call.
const maxName = 60

// prepare cuts the names that a function and those within it keep for errors, and
// makes `return coroutine.yield()` a call like others: as a tail call it cannot be
// resumed in gopher-lua.
func prepare(p *lua.FunctionProto) {
	cut := func(s *string) { *s = (*s)[:min(len(*s), maxName)] }
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
