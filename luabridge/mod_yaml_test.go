package luabridge

import (
	"errors"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

func TestYAML(t *testing.T) {
	ask(t, `
		local yaml = require("yaml")
		local v, err = yaml.decode("a:\n  b: 1\n  c: [x, 1.5, yes, 'yes', null, ~]\n  d: 2001-02-03\n  1: true\n")
		assert(err == nil and v.a.b == 1 and #v.a.c == 4 and v.a.c[2] == 1.5 and v.a.c[3] == true and v.a.c[4] == "yes")
		assert(v.a.d == "2001-02-03" and v.a[1] == true)
		assert(yaml.decode("") == nil and yaml.decode("off") == false and yaml.decode("0x10") == 16 and yaml.decode("!!binary eHk=") == "xy")
		v = yaml.decode("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\nlist: {<<: [*b, {z: 4}]}")
		assert(v.more.x == 1 and v.more.y == 3 and v.list.z == 4 and v.base.y == 2)
		assert(yaml.encode({a = {b = 1}}) == "a:\n  b: 1\n")
		assert(yaml.encode({"foo", "bar"}) == "- foo\n- bar\n")
		assert(yaml.encode({[0] = "foo", [1] = "bar"}) == "0: foo\n1: bar\n")
		assert(yaml.encode({foo = "bar", bar = {1, 2, 3.45}}) == "bar:\n- 1\n- 2\n- 3.45\nfoo: bar\n")
		assert(yaml.encode({}) == "[]\n" and yaml.encode(nil) == "null\n")
		local function fails(want, got, err) assert(got == nil and err:find(want, 1, true), err) end
		fails("cannot encode values with function in them", yaml.encode({print}))
		local t1 = {} t1.t1 = t1
		fails("nested table", yaml.encode(t1))
		fails("nested over 16 deep", yaml.decode(("["):rep(20) .. ("]"):rep(20)))
		fails("over 4096 values", yaml.decode("[" .. ("x,"):rep(4200) .. "]"))
		fails("is no key", yaml.decode("{[a]: b}"))
		fails(".nan is no key", yaml.decode("{.nan: b}"))
		fails("at most 65536", yaml.decode(("x"):rep(70000)))
		local bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
		for c in ("bcdefg"):gmatch(".") do
			local before = string.char(c:byte() - 1)
			bomb = bomb .. c .. ": &" .. c .. " [" .. ("*" .. before .. ","):rep(9) .. "]\n"
		end
		fails("over", yaml.decode(bomb))
		fails("", yaml.decode("a: &a [*a]"))`, query("alice"), func(o *Options) { o.Limits.Steps, o.Limits.Memory = 1<<30, 1<<30 })
	for statement, want := range map[string]string{
		`require("yaml").decode()`: "bad argument #1 to decode (string expected, got no value)",
		`require("yaml").encode()`: "bad argument #1 to encode (value expected)",
	} {
		if got := luaError(t, statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// Hostile YAML ends in a value, a text or a used up budget, and soon.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: [1, {b: c}]", "&a [*a]", "<<: *x", "? [a]\n: b", "!!binary x", "!!int x", "{<<: {a: 1}}", strings.Repeat("[", 10000), strings.Repeat("- ", 5000), strings.Repeat("{a: ", 5000), "!!bool 7", "!!float ''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 32<<10 {
			return
		}
		d := newDirector(t, inFilter(`
			local yaml = require("yaml")
			local v, err = yaml.decode(`+luaText(text)+`)
			assert(v == nil or err == nil)
			yaml.encode(v)`), func(o *Options) { o.Limits.Time = 5 * time.Second })
		began := time.Now()
		_, err := d.Direct(t.Context(), query("alice"))
		var fault *proxy.PolicyFault
		if errors.As(err, &fault) && !strings.Contains(fault.Error(), "budget of") {
			t.Error(fault)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
