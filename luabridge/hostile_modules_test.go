package luabridge

import (
	"fmt"
	"strings"
	"testing"

	"usher/luabridge/modules"
)

// everyName is Lua for a list of all modules, with the names of all that stands
// in them.
func everyName() string {
	var b strings.Builder
	b.WriteString("local every = {\n")
	for _, m := range modules.All {
		fmt.Fprintf(&b, "%q, {", m.Name)
		for _, f := range m.Funcs {
			fmt.Fprintf(&b, "%q,", f.Name)
		}
		for _, v := range m.Values {
			fmt.Fprintf(&b, "%q,", v.Name)
		}
		for _, f := range m.Fields {
			fmt.Fprintf(&b, "%q,", f.Name)
		}
		b.WriteString("},\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Whatever a module has in it, what one request writes there the next one does not
// see, on the same state.
func TestPoisoning_EveryModule(t *testing.T) {
	d := newDirector(t, everyName()+`
	local function walk(t, visit, seen, path)
		if type(t) ~= "table" or seen[t] then return end
		seen[t] = true
		visit(t, path)
		for k, v in pairs(t) do walk(v, visit, seen, path .. "." .. tostring(k)) end
	end
	function nauthilus_call_filter(request)
		local found = {}
		local function visit(t, path)
			if rawget(t, "leak") ~= nil or t.leak ~= nil or t[1] == "leak" then found[#found + 1] = path end
		end
		local function poison(t)
			pcall(function() t.leak = "leak" end)
			pcall(rawset, t, "leak", "leak")
			pcall(table.insert, t, "leak")
			pcall(function() setmetatable(t, {__index = {leak = "leak"}}) end)
		end
		for _, visitor in ipairs({visit, poison}) do
			local seen = {}
			for i = 1, #every, 2 do
				local m = require(every[i])
				for _, name in ipairs(every[i + 1]) do
					local v = m[name]
					walk(v, visitor, seen, every[i] .. "." .. name)
					if visitor == poison then pcall(function() v.leak = "leak" end) end
					if visitor == visit and type(v) == "userdata" and select(2, pcall(function() return v.leak end)) == "leak" then found[#found + 1] = every[i] .. "." .. name end
				end
				walk(m, visitor, seen, every[i])
			end
		end
		nauthilus_builtin.custom_log_add("found", table.concat(found, " "))
	end`)
	for range 3 {
		v := direct(t, d, query("alice"))
		if v.Logs[0].Value != "" {
			t.Fatalf("left behind in %s", v.Logs[0].Value)
		}
	}
}
