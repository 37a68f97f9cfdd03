package lualib

import (
	"github.com/yuin/gopher-lua/ast"
)

// maxNesting is how deep expressions and statements may nest. gopher-lua's
// compiler calls itself for each level, and a Go stack that is full ends the
// process.
const maxNesting = 1000

// A nested is a statement or expression, and how deep it stands.
type nested struct {
	node  any
	depth int
}

// walk looks at all of a chunk: it separates entangled assignments, and returns
// the line of what nests deeper than maxNesting, or 0, and how many constants
// there are. It calls itself for nothing.
func walk(chunk []ast.Stmt) (line, constants int) {
	var open []nested
	depth := 0
	add := func(nodes ...any) {
		for _, n := range nodes {
			open = append(open, nested{n, depth + 1})
		}
	}
	exprs := func(list []ast.Expr) {
		for _, e := range list {
			add(e)
		}
	}
	stmts := func(list []ast.Stmt) {
		separate(list)
		for _, s := range list {
			add(s)
		}
	}
	stmts(chunk)
	for len(open) > 0 {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		depth = n.depth
		if p, ok := n.node.(ast.PositionHolder); ok && depth > maxNesting {
			return max(p.Line(), 1), constants
		}
		switch n := n.node.(type) {
		case *ast.NumberExpr, *ast.StringExpr:
			constants++
		case *ast.AttrGetExpr:
			add(n.Object, n.Key)
		case *ast.TableExpr:
			for _, f := range n.Fields {
				add(f.Key, f.Value)
			}
		case *ast.FuncCallExpr:
			add(n.Func, n.Receiver)
			exprs(n.Args)
		case *ast.LogicalOpExpr:
			add(n.Lhs, n.Rhs)
		case *ast.RelationalOpExpr:
			add(n.Lhs, n.Rhs)
		case *ast.StringConcatOpExpr:
			add(n.Lhs, n.Rhs)
		case *ast.ArithmeticOpExpr:
			add(n.Lhs, n.Rhs)
		case *ast.UnaryMinusOpExpr:
			add(n.Expr)
		case *ast.UnaryNotOpExpr:
			add(n.Expr)
		case *ast.UnaryLenOpExpr:
			add(n.Expr)
		case *ast.FunctionExpr:
			stmts(n.Stmts)

		case *ast.AssignStmt:
			exprs(n.Lhs)
			exprs(n.Rhs)
		case *ast.LocalAssignStmt:
			exprs(n.Exprs)
		case *ast.FuncCallStmt:
			add(n.Expr)
		case *ast.DoBlockStmt:
			stmts(n.Stmts)
		case *ast.WhileStmt:
			add(n.Condition)
			stmts(n.Stmts)
		case *ast.RepeatStmt:
			add(n.Condition)
			stmts(n.Stmts)
		case *ast.IfStmt:
			add(n.Condition)
			stmts(n.Then)
			stmts(n.Else)
		case *ast.NumberForStmt:
			add(n.Init, n.Limit, n.Step)
			stmts(n.Stmts)
		case *ast.GenericForStmt:
			exprs(n.Exprs)
			stmts(n.Stmts)
		case *ast.FuncDefStmt:
			add(n.Name.Func, n.Name.Receiver, n.Func)
		case *ast.ReturnStmt:
			exprs(n.Exprs)
		}
	}
	return 0, constants
}
