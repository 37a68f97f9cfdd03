package modules

import (
	"net/http"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// httpResponseModule is nauthilus_http_response.
var httpResponseModule = Module{
	Name: "nauthilus_http_response", Global: true,
	Doc: "Headers of the answer to nginx, besides those that usher writes: never `Auth-…`, and only what has room in the 1 KiB that nginx reads. For Dovecot, whose protocol has no headers, the functions do nothing.",
	Funcs: []Func{
		{Name: "set_http_response_header", Do: setHeader("set_http_response_header", proxy.HeaderSet),
			Sig:     `(name: string, value: string)`,
			Doc:     "Sets a header, in place of those of the same name.",
			Example: "local http = require(\"nauthilus_http_response\")\nhttp.set_http_response_header(\"X-Site\", \"north\")\nprint(\"set\") --> set"},
		{Name: "add_http_response_header", Do: setHeader("add_http_response_header", proxy.HeaderAdd),
			Sig:     `(name: string, value: string)`,
			Doc:     "Adds a header to those of the same name.",
			Example: "local http = require(\"nauthilus_http_response\")\nhttp.add_http_response_header(\"X-Site\", \"north\")\nprint(\"added\") --> added"},
		{Name: "remove_http_response_header", Do: setHeader("remove_http_response_header", proxy.HeaderRemove),
			Sig:     `(name: string)`,
			Doc:     "Takes away what a script has set before.",
			Example: "local http = require(\"nauthilus_http_response\")\nhttp.remove_http_response_header(\"X-Site\")\nprint(\"removed\") --> removed"},
		{Name: "set_http_content_type", Do: func(L *lua.LState) int {
			value, ok := L.Get(1).(lua.LString)
			if !ok {
				argError(L, 1, "set_http_content_type", "string")
			}
			CallOf(L).header(L, proxy.HeaderChange{Op: proxy.HeaderSet, Name: "Content-Type", Value: string(value)})
			return 0
		},
			Sig: `(value: string)`, Doc: "Sets the header Content-Type.",
			Example: "local http = require(\"nauthilus_http_response\")\nhttp.set_http_content_type(\"text/plain\")\nprint(\"set\") --> set"},
		{Name: "set_http_status", Do: func(L *lua.LState) int {
			if n, ok := L.Get(1).(lua.LNumber); !ok || !(n >= 100 && n <= 999) {
				argError(L, 1, "set_http_status", "number of 100 to 999")
			}
			return 0
		},
			Sig: `(status: integer)`, Doc: "Does nothing: nginx does not look at the status, which is always 200.",
			Example: "local http = require(\"nauthilus_http_response\")\nhttp.set_http_status(http.STATUS_OK)\nprint(http.STATUS_OK) --> 200"},
		noBody("write_http_response_body"), noBody("string"), noBody("html"), noBody("data"), noBody("redirect"),
	},
	Values: statusValues(),
}

// statusValues are STATUS_OK and the like.
func statusValues() (values []Value) {
	for code := 100; code < 600; code++ {
		if text := http.StatusText(code); text != "" {
			name := strings.NewReplacer(" ", "_", "-", "_", "'", "").Replace(strings.ToUpper(text))
			values = append(values, Value{Name: "STATUS_" + name, Value: lua.LNumber(code)})
		}
	}
	return values
}

func noBody(name string) Func {
	return Func{
		Name: name, Do: func(L *lua.LState) int {
			L.RaiseError("%s: an answer to a mail proxy has no body", name)
			return 0
		},
		Sig: `(...: any)`, Doc: "Raises an error: an answer to a mail proxy has no body.",
		Example: "local http = require(\"nauthilus_http_response\")\nprint((pcall(http." + name + ", \"text\"))) --> false",
	}
}

func setHeader(function string, op proxy.HeaderOp) lua.LGFunction {
	return func(L *lua.LState) int {
		name, ok := L.Get(1).(lua.LString)
		if !ok {
			argError(L, 1, function, "string")
		}
		var value lua.LString
		if op != proxy.HeaderRemove {
			switch v := L.Get(2).(type) {
			case lua.LString:
				value = v
			case lua.LNumber:
				value = lua.LString(number(v))
			default:
				argError(L, 2, function, "string")
			}
		}
		CallOf(L).header(L, proxy.HeaderChange{Op: op, Name: string(name), Value: string(value)})
		return 0
	}
}

// header notes a change of the answer's headers. Those that no answer can carry
// are an error; the adapter drops what has no room.
func (c *Call) header(L *lua.LState, h proxy.HeaderChange) {
	if c.Query.Request.Headers == nil {
		return // Dovecot
	}
	if len(c.Verdict.Header) >= maxHeaders {
		L.RaiseError("a request changes %d headers at most", maxHeaders)
	}
	take(L, 4+(len(h.Name)+len(h.Value))/16, 128+len(h.Name)+len(h.Value))
	if err := h.Valid(); err != nil {
		L.RaiseError("%s", c.Shown(err.Error(), 200))
	}
	h.Name, h.Value = http.CanonicalHeaderKey(strings.Clone(h.Name)), strings.Clone(h.Value)
	c.Verdict.Header = append(c.Verdict.Header, h)
}

// maxHeaders bounds the changes of one request.
const maxHeaders = 64
