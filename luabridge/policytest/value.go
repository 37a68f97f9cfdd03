package policytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// maxDepth bounds how deep tables are compared and shown: they may go in circles.
const maxDepth = 20

// equal compares values, tables by what is in them.
func equal(a, b lua.LValue, depth int) bool {
	ta, isA := a.(*lua.LTable)
	tb, isB := b.(*lua.LTable)
	if !isA || !isB || ta == tb || depth > maxDepth {
		return a == b
	}
	same, n := true, 0
	ta.ForEach(func(k, v lua.LValue) {
		n++
		same = same && equal(v, tb.RawGet(k), depth+1)
	})
	tb.ForEach(func(_, _ lua.LValue) { n-- })
	return same && n == 0
}

// show is a value as Lua would write it, on one line.
func show(v lua.LValue) string { return shown(v, 0) }

func shown(v lua.LValue, depth int) string {
	switch v := v.(type) {
	case lua.LString:
		return strconv.Quote(string(v))
	case *lua.LTable:
		if depth > maxDepth {
			return "{…}"
		}
		var parts []string
		n := v.Len()
		for i := 1; i <= n; i++ {
			parts = append(parts, shown(v.RawGetInt(i), depth+1))
		}
		for _, k := range otherKeys(v, n) {
			parts = append(parts, keyText(k)+" = "+shown(v.RawGet(k), depth+1))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return v.String()
}

// otherKeys are those of a table that are not its first n numbers, sorted.
func otherKeys(t *lua.LTable, n int) (list []lua.LValue) {
	t.ForEach(func(k, _ lua.LValue) {
		if i, ok := k.(lua.LNumber); ok && i >= 1 && int(i) <= n && lua.LNumber(int(i)) == i {
			return
		}
		list = append(list, k)
	})
	slices.SortFunc(list, func(a, b lua.LValue) int { return strings.Compare(a.String(), b.String()) })
	return list
}

func keyText(k lua.LValue) string {
	if s, ok := k.(lua.LString); ok && isName(string(s)) {
		return string(s)
	}
	return "[" + show(k) + "]"
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// diff lists where two values differ: - what was expected, + what came.
func diff(want, got lua.LValue) []string {
	var lines []string
	differ("", want, got, 0, &lines)
	return lines
}

func differ(path string, want, got lua.LValue, depth int, lines *[]string) {
	if equal(want, got, depth) {
		return
	}
	tw, isW := want.(*lua.LTable)
	tg, isG := got.(*lua.LTable)
	if !isW || !isG || depth > maxDepth {
		if path != "" {
			path += " = "
		}
		*lines = append(*lines, "- "+path+show(want), "+ "+path+show(got))
		return
	}
	all := otherKeys(tw, 0)
	for _, k := range otherKeys(tg, 0) {
		if tw.RawGet(k) == lua.LNil {
			all = append(all, k)
		}
	}
	for _, k := range all {
		name := keyText(k)
		if name[0] != '[' && path != "" {
			name = "." + name
		}
		differ(path+name, tw.RawGet(k), tg.RawGet(k), depth+1, lines)
	}
}

// differences is diff as a text that says what each side is.
func differences(want, got lua.LValue) string {
	_, table := want.(*lua.LTable)
	_, both := got.(*lua.LTable)
	if table && both {
		return "the tables differ: - expected, + got\n" + strings.Join(diff(want, got), "\n")
	}
	return fmt.Sprintf("expected %s\n     got %s", show(want), show(got))
}
