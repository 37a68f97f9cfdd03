package modules

import (
	"net/http"
	"net/url"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// httpRequestModule is nauthilus_http_request.
var httpRequestModule = Module{
	Name: "nauthilus_http_request", Global: true,
	Doc: "The HTTP request by which nginx asked, without the password, the shared secret, `Authorization`, `Proxy-Authorization` and `Cookie`. Requests of Dovecot have two headers made up, which Nauthilus' filters look for: `X-Nauthilus-Service: Dovecot` and `X-Dovecot-Proxy-Target` with the client's address and port.",
	Funcs: []Func{
		{Name: "get_all_http_request_headers", Do: allHeaders,
			Sig:     `() -> headers: table<string, string[]>`,
			Doc:     "All headers; the names in lower case, the values a list each.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_all_http_request_headers()[\"x-nauthilus-service\"][1]) --> Dovecot"},
		{Name: "get_http_request_header", Do: oneHeader,
			Sig:     `(name: string) -> values: string[]`,
			Doc:     "The values of one header, whatever the case of its name; `{}` if there is none.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_http_request_header(\"X-Nauthilus-Service\")[1]) --> Dovecot"},
		{Name: "get_http_request_body", Do: pushText(func(*Call) string { return "" }),
			Sig: `() -> body: string`, Doc: "Always `\"\"`: neither nginx nor Dovecot sends one.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_http_request_body() == \"\") --> true"},
		{Name: "get_http_method", Do: pushText(func(c *Call) string {
			if c.Query.Request.Headers == nil {
				return ""
			}
			return http.MethodGet
		}),
			Sig: `() -> method: string`, Doc: "`GET`; `\"\"` for Dovecot.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_http_method() == \"\") --> true"},
		{Name: "get_http_path", Do: pushText(func(c *Call) string {
			path, _, _ := strings.Cut(c.Query.Request.URI, "?")
			return path
		}),
			Sig: `() -> path: string`, Doc: "The path that nginx asked for; `\"\"` for Dovecot.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_http_path() == \"\") --> true"},
		{Name: "get_http_query_param", Do: queryParam,
			Sig: `(name: string) -> value: string`, Doc: "The first value of a parameter behind the path in nginx's `auth_http`, or `\"\"`.",
			Example: "local http = require(\"nauthilus_http_request\")\nprint(http.get_http_query_param(\"x\") == \"\") --> true"},
	},
}

func pushText(of func(*Call) string) lua.LGFunction {
	return func(L *lua.LState) int {
		L.Push(lua.LString(of(CallOf(L))))
		return 1
	}
}

func queryParam(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "get_http_query_param", "string")
	}
	_, query, _ := strings.Cut(CallOf(L).Query.Request.URI, "?")
	take(L, 10+len(query)/4, 4*len(query))
	values, _ := url.ParseQuery(query) // what of it can be read
	L.Push(lua.LString(values.Get(string(name))))
	return 1
}

// headers are those of the request, by canonical name.
func (c *Call) headers() map[string][]string {
	r := c.Query.Request
	if r.Headers != nil || r.Adapter != "dovecot" {
		return r.Headers
	}
	h := map[string][]string{"X-Nauthilus-Service": {"Dovecot"}}
	if r.Client.IsValid() {
		h["X-Dovecot-Proxy-Target"] = []string{r.Client.String()}
	}
	return h
}

func headerList(L *lua.LState, values []string) *lua.LTable {
	t := L.CreateTable(len(values), 0)
	for _, v := range values {
		take(L, 1+len(v)/64, 64)
		t.Append(lua.LString(v))
	}
	return t
}

func allHeaders(L *lua.LState) int {
	h := CallOf(L).headers()
	take(L, 10*len(h), 512*len(h))
	t := L.CreateTable(0, len(h))
	for name, values := range h {
		t.RawSetString(strings.ToLower(name), headerList(L, values))
	}
	L.Push(t)
	return 1
}

func oneHeader(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "get_http_request_header", "string")
	}
	take(L, 10, 128)
	var values []string
	if len(name) <= maxHeaderName {
		values = CallOf(L).headers()[http.CanonicalHeaderKey(string(name))]
	}
	L.Push(headerList(L, values))
	return 1
}

// maxHeaderName is the longest name of a header that is looked for, in bytes.
const maxHeaderName = 256
