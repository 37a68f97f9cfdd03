package lualib

import (
	"runtime"
	"strings"
	"testing"
)

// What is taken for source that is compiled is near what that takes: not less,
// and not much more.
func TestLoadCost(t *testing.T) {
	for name, source := range map[string]string{
		"assignments":   strings.Repeat("x=1 ", 10000),
		"calls":         strings.Repeat("f(a,b)", 8000),
		"parentheses":   "return " + strings.Repeat("(", 10000) + "1" + strings.Repeat(")", 10000),
		"minus":         "return " + strings.Repeat("- ", 10000) + "1",
		"not":           "return " + strings.Repeat("not ", 8000) + "1",
		"sums":          "return 1" + strings.Repeat("+1", 10000),
		"texts":         "return ''" + strings.Repeat("..''", 200),
		"tables":        "return " + strings.Repeat("{", 150) + strings.Repeat("}", 150),
		"a list":        "return {" + strings.Repeat("1,", 20000) + "}",
		"functions":     strings.Repeat("function f()end ", 3000),
		"nested blocks": strings.Repeat("do ", 5000) + strings.Repeat("end ", 5000),
		"names":         strings.Repeat("a.b.c.d=1 ", 4000),
		"broken":        strings.Repeat("(", 30000),
		"comments":      strings.Repeat("-- x\n", 8000),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Compile("test", source)
			runtime.ReadMemStats(&after)
			// The stack that the compiler needs is no allocation; it is freed after.
			took := int(after.TotalAlloc - before.TotalAlloc + after.StackSys - before.StackSys)
			t.Logf("%d bytes of source took %d, for which %d are taken; %v", len(source), took, loadCost(source), err)
			if took > 3*loadCost(source) {
				t.Errorf("%d bytes of source took %d, for which %d are taken", len(source), took, loadCost(source))
			}
		})
	}
}
