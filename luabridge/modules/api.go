package modules

import (
	lua "github.com/yuin/gopher-lua"
)

// A Module is a name that scripts can require. What scripts get, what
// docs/lua-api.md says and what editors are told in scripts/types is all made
// of this one table.
type Module struct {
	Name string
	Doc  string // Markdown
	// Global: scripts have it without require too.
	Global bool
	// Network: its functions reach the network, which director.network allows.
	Network bool
	Funcs   []Func
	Values  []Value
	Types   []Type
	// Finish, if set, completes the table of one state, with what Fields says.
	Finish func(L *lua.LState, t *lua.LTable)
	Fields []Field
}

// A Func is one function of a module, or one method of a type.
type Func struct {
	Name string
	Do   lua.LGFunction
	// Sig is its parameters and results as LuaLS has types, each with its name:
	// `(key: string, ttl?: integer) -> value: any, err: string?`. Of methods it
	// leaves out self. A parameter of any number is `...: string`.
	Sig string
	// Forms are other ways to call it.
	Forms []string
	Doc   string // Markdown
	// Example is a part of a policy, which has `request`. It runs in the tests, and
	// what it prints must be what stands behind each `-->`.
	Example string
}

// A Value is a constant of a module.
type Value struct {
	Name  string
	Value lua.LValue
	Doc   string // "": its name says it
}

// A Type is a kind of userdata that functions return.
type Type struct {
	Name    string // as errors have it
	Doc     string
	Fields  []Field
	Methods []Func
	// Call, if set, is what calling the value itself does.
	Call lua.LGFunction
}

// A Field is read of a userdata or table.
type Field struct {
	Name string
	Type string // LuaLS
	Doc  string
}

// Table makes the module's table for one state, and the metatables of its types.
func (m *Module) Table(L *lua.LState) *lua.LTable {
	t := L.CreateTable(0, len(m.Funcs)+len(m.Values))
	for _, f := range m.Funcs {
		t.RawSetString(f.Name, L.NewFunction(f.Do))
	}
	for _, v := range m.Values {
		t.RawSetString(v.Name, v.Value)
	}
	for i := range m.Types {
		if len(m.Types[i].Methods) > 0 {
			m.Types[i].register(L)
		}
	}
	if m.Finish != nil {
		m.Finish(L, t)
	}
	return t
}

func (t *Type) register(L *lua.LState) {
	methods := L.CreateTable(0, len(t.Methods))
	for _, f := range t.Methods {
		methods.RawSetString(f.Name, L.NewFunction(f.Do))
	}
	mt := L.NewTypeMetatable(t.Name)
	mt.RawSetString("__index", methods)
	mt.RawSetString("__metatable", lua.LFalse)
	mt.RawSetString("__name", lua.LString(t.Name))
	if t.Call != nil {
		mt.RawSetString("__call", L.NewFunction(t.Call))
	}
}

// newObject makes a userdata of one of the module's types that has methods.
func newObject(L *lua.LState, typeName string, value any) *lua.LUserData {
	return &lua.LUserData{Value: value, Metatable: L.GetTypeMetatable(typeName)}
}

// All are the modules of this version, by name.
var All = []*Module{
	&backendModule,
	&backendResultModule,
	&builtinModule,
	&cacheModule,
	&contextModule,
	&cryptoModule,
	&dnsModule,
	&httpModule,
	&base64Module,
	bruteForceModule,
	&httpRequestModule,
	&httpResponseModule,
	&inspectModule,
	&jsonModule,
	&keysModule,
	ldapModule,
	mailModule,
	&miscModule,
	&otelModule,
	&passwordModule,
	&prometheusModule,
	&psnetModule,
	&redisModule,
	&regexpModule,
	softWhitelistModule,
	&stringsModule,
	&timeModule,
	&utilModule,
	&usherModule,
	&yamlModule,
}

// Named returns the module of that name, or nil.
func Named(name string) *Module { return byName[name] }

var byName = func() map[string]*Module {
	m := map[string]*Module{}
	for _, module := range All {
		m[module.Name] = module
	}
	return m
}()

// absent are modules of Nauthilus that usher has not, and why.
var absent = map[string]string{
	"ioutil": files, "filepath": files, "goos": files, "storage": files, "tac": files, "log": files,
	"http": "it is a server too, and has no deadline; use glua_http", "tcp": network, "cert_util": network, "db": network,
	"telegram": network, "chef": network, "zabbix": network, "cloudwatch": network,
	"prometheus": "use nauthilus_prometheus", "pprof": "it shows what all requests do",
	"plugin": "it runs Lua outside of a request's budgets", "cmd": "it runs programs", "pb": "it draws on a terminal",
	"hex": "use string.format(\"%02x\", byte), or glua_crypto", "crypto": "use glua_crypto", "bit": other, "stats": other, "humanize": other,
	"xmlpath": other, "shellescape": other, "runtime": other, "argparse": other, "template": other,
	"nauthilus_policy": "Nauthilus 1.12 has none", "re2": "use regexp", "nauthilus_neural": "Nauthilus 1.12 has none",
}

const (
	files   = "usher leaves it out: what clients send could reach files by it"
	network = "usher leaves it out: it reaches the network without the request's deadline"
	other   = "usher leaves it out: no filter of Nauthilus 1.12 needs it; a Lua file of that name in director.package_path will do"
)

// Absent says why there is no module of that name, or "" where nothing is known.
func Absent(name string) string { return absent[name] }
