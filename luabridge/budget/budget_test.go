package budget

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
)

func TestLayout(t *testing.T) {
	if err := Layout(); err != nil {
		t.Fatal(err)
	}
	const here = "usher/luabridge/budget"
	metatable := reflect.StructField{Name: "Metatable", Type: reflect.TypeFor[lua.LValue]()}
	moved := reflect.StructField{Name: "dict", PkgPath: here, Type: reflect.TypeFor[map[lua.LValue]lua.LValue]()}
	changed := reflect.StructField{Name: "array", PkgPath: here, Type: reflect.TypeFor[[]lua.LString]()}
	for _, other := range []reflect.Type{
		reflect.StructOf([]reflect.StructField{metatable, moved}), reflect.StructOf([]reflect.StructField{metatable, changed}),
	} {
		if err := sameLayout(reflect.TypeFor[lua.LTable](), other); err == nil {
			t.Errorf("%v passes for a table", other)
		}
	}
}

func run(t *testing.T, l Limits, text string) (*Budget, error) {
	t.Helper()
	L := lua.NewState(lua.Options{CallStackSize: 200, RegistrySize: 1024, RegistryMaxSize: 64 * 1024, RegistryGrowStep: 1024})
	t.Cleanup(L.Close)
	b := new(Budget)
	Attach(L, b)
	b.Start(context.Background(), l, time.Now())
	return b, L.DoString(text)
}

// What is taken for things is near what they take: not less, and not much more.
func TestCosts(t *testing.T) {
	for name, text := range map[string]string{
		"tables":         `keep = {} for i = 1, 20000 do keep[i] = {} end`,
		"lists":          `keep = {} for i = 1, 5000 do keep[i] = {1, 2, 3, 4, 5, 6, 7, 8} end`,
		"lists by store": `keep = {} for i = 1, 2000 do local t = {} for j = 1, 40 do t[j] = true end keep[i] = t end`,
		"one long list":  `keep = {} for i = 1, 200000 do keep[i] = i end`,
		"records":        `keep = {} for i = 1, 5000 do keep[i] = {a = 1, b = 2, c = 3, d = 4} end`,
		"late records":   `keep = {} for i = 1, 2000 do local t = {} t.a = 1 t.b = 2 keep[i] = t end`,
		"one map":        `keep = {} for i = 1, 20000 do keep["key" .. i] = true end`,
		"map of numbers": `keep = {} for i = 1, 20000 do keep[-i] = true end`,
		"map of tables":  `keep = {} for i = 1, 20000 do keep[{}] = true end`,
		"functions":      `keep = {} for i = 1, 20000 do keep[i] = function() return keep end end`,
		"closures":       `keep = {} for i = 1, 10000 do local a, b = i, i keep[i] = function() return a + b end end`,
		"texts":          `keep = {} for i = 1, 20000 do keep[i] = "text number " .. i end`,
		"one text":       `keep = "x" for i = 1, 20 do keep = keep .. keep end`,
	} {
		t.Run(name, func(t *testing.T) {
			before := live()
			b, err := run(t, Limits{Steps: 1 << 40, Memory: 1 << 30, Time: time.Minute}, text)
			if err != nil {
				t.Fatal(err)
			}
			if b.last != nil {
				b.settle()
			}
			got := int(live() - before)
			t.Logf("%d bytes live, %d taken", got, b.Memory())
			if b.Memory() < got*8/10 || b.Memory() > got*3 {
				t.Errorf("%d bytes are live, %d were taken", got, b.Memory())
			}
		})
	}
}

// live is what is in use.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A budget that is used up stays so, and says how much there was.
func TestExceed(t *testing.T) {
	b, err := run(t, Limits{Steps: 1000, Memory: 1 << 20, Time: time.Minute}, `pcall(function() while true do end end) x = 1`)
	if err == nil || !strings.Contains(err.Error(), "<string>:1: budget of steps used up (director.steps: 1000)") || !errors.Is(b.Fault(), ErrSteps) {
		t.Errorf("%v; fault %v", err, b.Fault())
	}
	if b.Steps() != 1000 {
		t.Errorf("%d steps", b.Steps())
	}
	b.Exceed(ErrMemory)
	if !errors.Is(b.Fault(), ErrSteps) {
		t.Errorf("the first fault is forgotten: %v", b.Fault())
	}
	b, err = run(t, Limits{Steps: 1000, Memory: 1 << 20, Time: time.Minute}, `x = {} for i = 1, 10 do x[i] = i end`)
	if err != nil || b.Fault() != nil || b.Steps() < 40 || b.Steps() > 60 || b.Memory() < 700 || b.Memory() > 1800 {
		t.Errorf("%v: %d steps, %d bytes", err, b.Steps(), b.Memory())
	}
	b.Stop()
	if b.Fault() != nil || b.Steps() != 0 || b.parent != nil || b.last != nil {
		t.Errorf("kept: %+v", b)
	}
}

// The steps of an instruction cost no allocation.
func TestStepsAllocateNothing(t *testing.T) {
	L := lua.NewState()
	defer L.Close()
	b := new(Budget)
	Attach(L, b)
	b.Start(context.Background(), Limits{Steps: 1 << 40, Memory: 1 << 30, Time: time.Hour}, time.Now())
	f, err := L.LoadString(`local t, s = {1, 2, 3}, "abc" for i = 1, 100 do t[1] = t[2] local x = t.y == s if s == "x" then x = #t end end`)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		L.Push(f)
		L.Call(0, 0)
	}); n > 12 { // the table, and a block of numbers now and then
		t.Errorf("%v allocations", n)
	}
}
