package lualib

import (
	"fmt"

	"github.com/yuin/gopher-lua/ast"
)

// separate makes `a, b = b, a` what Lua means by it: all values first, then the
// assignments. gopher-lua writes each value into its local variable at once, so
// that the next sees it. With names t1, t2 that no script can write it becomes
//
//	do local t1, t2 = b, a   a = t1   b = t2 end
//
// Elements of tables are assigned before variables, which may hold the tables.
func separate(stmts []ast.Stmt) {
	for i, s := range stmts {
		if a, ok := s.(*ast.AssignStmt); ok && entangled(a) {
			stmts[i] = separated(a)
		}
	}
}

// entangled reports whether an assignment has several targets, a variable among
// them, and values that could depend on it.
func entangled(a *ast.AssignStmt) bool {
	if len(a.Lhs) < 2 {
		return false
	}
	variable, plain := false, true
	for _, target := range a.Lhs {
		if _, ok := target.(*ast.IdentExpr); ok {
			variable = true
		} else {
			plain = false
		}
	}
	for _, value := range a.Rhs {
		if _, ok := value.(ast.ConstExpr); !ok {
			plain = false
		}
	}
	return variable && !plain
}

func separated(a *ast.AssignStmt) ast.Stmt {
	values := &ast.LocalAssignStmt{Exprs: a.Rhs}
	var elements, variables []ast.Stmt
	for i, target := range a.Lhs {
		name := fmt.Sprintf("(value %d)", i+1)
		values.Names = append(values.Names, name)
		value := &ast.IdentExpr{Value: name}
		at(value, target)
		one := &ast.AssignStmt{Lhs: []ast.Expr{target}, Rhs: []ast.Expr{value}}
		at(one, a)
		if _, ok := target.(*ast.IdentExpr); ok {
			variables = append(variables, one)
		} else {
			elements = append(elements, one)
		}
	}
	at(values, a)
	block := &ast.DoBlockStmt{Stmts: append(append([]ast.Stmt{values}, elements...), variables...)}
	at(block, a)
	return block
}

// at gives a node the place of another.
func at(n, of ast.PositionHolder) {
	n.SetLine(of.Line())
	n.SetLastLine(of.LastLine())
}
