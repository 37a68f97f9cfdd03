package modules

import (
	lua "github.com/yuin/gopher-lua"
)

const (
	tracerType = "nauthilus_opentelemetry_tracer"
	spanType   = "nauthilus_opentelemetry_span"
)

// otelModule is nauthilus_opentelemetry: usher sends no traces, and scripts run
// with it as with Nauthilus whose tracing is on.
var otelModule = Module{
	Name: "nauthilus_opentelemetry", Global: true,
	Doc: "Stands in for Nauthilus' tracing: usher sends no traces, so all functions are there and do nothing, but for `with_span`, which calls the function.",
	Funcs: []Func{
		{Name: "is_enabled", Do: pushValue(lua.LFalse), Sig: `() -> enabled: boolean`, Doc: "Always false.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(otel.is_enabled()) --> false"},
		{Name: "tracer", Do: newTracer, Sig: `(scope?: string) -> tracer: ` + tracerType, Doc: "A tracer.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(otel.tracer(\"site\") ~= nil) --> true"},
		{Name: "default_tracer", Do: newTracer, Sig: `() -> tracer: ` + tracerType, Doc: "A tracer.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(otel.default_tracer() ~= nil) --> true"},
		{Name: "baggage_set", Do: nothing, Sig: `(key: string, value: string)`, Doc: "Does nothing.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\notel.baggage_set(\"site\", \"north\")\nprint(otel.baggage_get(\"site\")) --> nil"},
		{Name: "baggage_get", Do: pushValue(lua.LNil), Sig: `(key: string) -> value: string?`, Doc: "Always nil.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(otel.baggage_get(\"site\")) --> nil"},
		{Name: "baggage_all", Do: pushTable, Sig: `() -> all: table`, Doc: "Always `{}`.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(next(otel.baggage_all())) --> nil"},
		{Name: "baggage_clear", Do: nothing, Sig: `()`, Doc: "Does nothing.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\notel.baggage_clear()\nprint(\"cleared\") --> cleared"},
		{Name: "inject_headers", Do: nothing, Sig: `(headers: table)`, Doc: "Does nothing.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\nlocal headers = {}\notel.inject_headers(headers)\nprint(next(headers)) --> nil"},
		{Name: "extract_headers", Do: nothing, Sig: `(headers: table)`, Doc: "Does nothing.",
			Example: "local otel = require(\"nauthilus_opentelemetry\")\notel.extract_headers({})\nprint(\"extracted\") --> extracted"},
	},
	Types: []Type{
		{Name: tracerType, Doc: "Makes spans.", Methods: []Func{
			{Name: "start_span", Do: newSpan, Sig: `(name: string, options?: table) -> span: ` + spanType, Doc: "A span that does nothing.",
				Example: "local otel = require(\"nauthilus_opentelemetry\")\nlocal span = otel.default_tracer():start_span(\"look-up\")\nspan:finish()\nprint(\"finished\") --> finished"},
			{Name: "with_span", Do: withSpan, Sig: `(name: string, f: function, options?: table) -> ...: any`, Doc: "Calls f with a span, and returns what it returns.",
				Example: "local otel = require(\"nauthilus_opentelemetry\")\nprint(otel.default_tracer():with_span(\"look-up\", function(span) return \"north\" end)) --> north"},
		}},
		{Name: semconvType, Doc: "Functions that each return an empty table.", Fields: semconvFields},
		{Name: spanType, Doc: "A span that does nothing.", Methods: []Func{
			spanMethod("set_attribute", `(key: string, value: any)`, `"site", "north"`),
			spanMethod("set_attributes", `(attributes: table)`, `{site = "north"}`),
			spanMethod("add_event", `(name: string, attributes?: table)`, `"asked"`),
			spanMethod("set_status", `(code: string, text?: string)`, `"ok"`),
			spanMethod("record_error", `(err: any)`, `"away"`),
			spanMethod("finish", `()`, ``),
		}},
	},
	Fields: []Field{{"semconv", semconvType, "Nauthilus' functions that make attributes of spans."}},
	Finish: func(L *lua.LState, t *lua.LTable) {
		// A part of the module, and not the request's own: no table, which a script
		// could write into by rawset.
		semconv := L.CreateTable(0, 4)
		for _, f := range semconvFields {
			semconv.RawSetString(f.Name, L.NewFunction(pushTable))
		}
		t.RawSetString("semconv", constant(L, semconvType, semconv))
		// Nauthilus' other name of finish, which Lua can't call plainly: span["end"](span).
		methods := L.GetField(L.GetTypeMetatable(spanType), "__index").(*lua.LTable)
		methods.RawSetString("end", L.NewFunction(nothing))
	},
}

const semconvType = "nauthilus_opentelemetry_semconv"

var semconvFields = []Field{
	{"peer_service", "fun(...: any): table", "Always `{}`."},
	{"http_client_attrs", "fun(...: any): table", "Always `{}`."},
	{"db_attrs", "fun(...: any): table", "Always `{}`."},
	{"net_attrs", "fun(...: any): table", "Always `{}`."},
}

// constant is a userdata with these fields, which no script can change: what stands
// in a module and is more than a function, number or text must be one, or a
// request would see what another wrote into it.
func constant(L *lua.LState, typeName string, fields lua.LValue) *lua.LUserData {
	mt := Sealed(L, fields)
	mt.RawSetString("__name", lua.LString(typeName))
	return &lua.LUserData{Metatable: mt}
}

func nothing(*lua.LState) int { return 0 }

func pushValue(v lua.LValue) lua.LGFunction {
	return func(L *lua.LState) int {
		L.Push(v)
		return 1
	}
}

func pushTable(L *lua.LState) int {
	take(L, 1, 96)
	L.Push(L.CreateTable(0, 0))
	return 1
}

func newTracer(L *lua.LState) int {
	take(L, 1, 64)
	L.Push(newObject(L, tracerType, nil))
	return 1
}

func newSpan(L *lua.LState) int {
	take(L, 1, 64)
	L.Push(newObject(L, spanType, nil))
	return 1
}

func withSpan(L *lua.LState) int {
	f, ok := L.Get(3).(*lua.LFunction)
	if !ok {
		argError(L, 3, "with_span", "function")
	}
	top := L.GetTop()
	L.Push(f)
	newSpan(L)
	L.Call(1, lua.MultRet)
	return L.GetTop() - top
}

func spanMethod(name, sig, args string) Func {
	return Func{
		Name: name, Do: nothing, Sig: sig, Doc: "Does nothing.",
		Example: "local otel = require(\"nauthilus_opentelemetry\")\nlocal span = otel.default_tracer():start_span(\"look-up\")\nspan:" + name + "(" + args + ")\nprint(\"done\") --> done",
	}
}
