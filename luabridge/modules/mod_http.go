package modules

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

const httpName = "glua_http"

const (
	httpTimeout  = 30 * time.Second // at most, and unless the script says less
	maxRedirects = 10
)

// httpModule is glua_http: github.com/cjoudrey/gluahttp as scripts know it.
var httpModule = Module{
	Name: httpName, Network: true,
	Doc: "Asks HTTP services, over connections that are kept between requests. Needs `director.network: true`. " +
		"`options` are a table, each of them may be left out: `headers` (names and values; `Host` too), `query` (replaces the URL's), `body`, `form` (a body of a form's type), " +
		"`timeout` (seconds, or a text like `\"500ms\"`), `auth` (`{user = \"u\", pass = \"p\"}`) and `cookies` (names and values). " +
		"A call ends after three quarters of what is left of `director.timeout`, or `timeout`, or 30 seconds, whichever comes first, so that the policy can still decide; of a server that answered nobody for a while one call at a time waits, and the others fail at once. " +
		"A server that cannot be reached, a bad URL and a bad header field return `nil` and a text; answers of any status, 404 and 500 too, are answers. " +
		"Only http and https, at most ten redirects, answers of at most 1 MiB (unpacked), URLs of at most 8 KiB; a redirect from https to http is not followed. Certificates must be valid.",
	Funcs: []Func{
		{
			Name: "get", Do: httpCall("GET"), Sig: httpSig,
			Doc: "Asks with `GET`. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local name = request.username:match("^[^@]*")
local answer, err = http.get("http://directory.example.org/users/" .. name, {timeout = "500ms"})
if not answer then
  usher.log("no directory: " .. err)
elseif answer.status_code == 200 then
  print(answer.body) --> {"site":"north"}
  print(answer.headers["X-Source"]) --> ldap
end`,
		},
		{
			Name: "head", Do: httpCall("HEAD"), Sig: httpSig,
			Doc: "Asks with `HEAD`: the answer has no body. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer = http.head("http://directory.example.org/users/nobody")
print(answer.status_code) --> 404`,
		},
		{
			Name: "post", Do: httpCall("POST"), Sig: httpSig,
			Doc: "Sends `body` or `form` with `POST`. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer = http.post("http://directory.example.org/logins", {
  body = '{"user":"alice"}', headers = {["Content-Type"] = "application/json"},
})
print(answer.status_code) --> 404`,
		},
		{
			Name: "put", Do: httpCall("PUT"), Sig: httpSig,
			Doc: "Sends `body` or `form` with `PUT`. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer = http.put("http://directory.example.org/logins/1", {body = "imap", auth = {user = "usher", pass = "secret"}})
print(answer.status_code) --> 404`,
		},
		{
			Name: "patch", Do: httpCall("PATCH"), Sig: httpSig,
			Doc: "Sends `body` or `form` with `PATCH`. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer = http.patch("http://directory.example.org/logins/1", {form = "state=open"})
print(answer.status_code) --> 404`,
		},
		{
			Name: "delete", Do: httpCall("DELETE"), Sig: httpSig,
			Doc: "Asks with `DELETE`. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer = http.delete("http://directory.example.org/logins/1")
print(answer.status_code) --> 404`,
		},
		{
			Name: "request", Do: httpRequestMethod,
			Sig: "(method: string, url: string, options?: table) -> answer: http.response?, err: string?",
			Doc: "Asks with any method, in upper or lower case. Returns the answer, or nil and what went wrong.",
			Example: `local http = require("glua_http")
local answer, err = http.request("get", "ftp://directory.example.org/")
print(err) --> glua_http: unsupported protocol scheme; expected http:// or https://`,
		},
		{
			Name: "request_batch", Do: httpBatch,
			Sig: "(requests: table)",
			Doc: "Is not in usher, and raises an error that says so: ask one after the other.",
			Example: `local http = require("glua_http")
local ok = pcall(http.request_batch, {{"get", "http://directory.example.org/users/alice"}})
print(ok) --> false`,
		},
	},
	Types: []Type{{
		Name: responseType, Doc: "An answer of an HTTP server. A field that it has not is nil.",
		Fields: []Field{
			{Name: "status_code", Type: "integer", Doc: "200, 404 …"},
			{Name: "body", Type: "string", Doc: "\"\" if there is none."},
			{Name: "body_size", Type: "integer", Doc: "Its length, in bytes."},
			{Name: "headers", Type: "table<string,string>", Doc: "By name, written like `Content-Type`. Of several of one name the first."},
			{Name: "cookies", Type: "table<string,string>", Doc: "That the server set, by name."},
			{Name: "url", Type: "string", Doc: "What answered, after redirects; without user and password."},
		},
	}},
}

const httpSig = "(url: string, options?: table) -> answer: http.response?, err: string?"

func httpCall(method string) lua.LGFunction {
	return func(L *lua.LState) int { return ask(L, method, 1) }
}

func httpRequestMethod(L *lua.LState) int {
	method, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, httpName, "method (string)")
	}
	return ask(L, strings.ToUpper(clip(string(method), maxMethod+1)), 2)
}

func httpBatch(L *lua.LState) int {
	L.RaiseError("%s: request_batch is not in usher; ask one after the other", httpName)
	return 0
}

// ask asks for the URL that is argument at, with the options behind it.
func ask(L *lua.LState, method string, at int) int {
	target, ok := L.Get(at).(lua.LString)
	if !ok {
		argError(L, at, httpName, "URL (string)")
	}
	take(L, 2000+min(len(target), maxURL)/8, 32<<10)
	answer, err := CallOf(L).fetch(L, method, string(target), L.Get(at+1), at+1)
	if err != nil {
		L.Push(lua.LNil)
		L.Push(lua.LString(httpName + ": " + clip(err.Error(), 500)))
		return 2
	}
	L.Push(answer)
	return 1
}

// errLeft is what came of a call that a budget ended.
var errLeft = errors.New("a budget of the policy was used up")

func (c *Call) fetch(L *lua.LState, method, target string, options lua.LValue, at int) (*lua.LUserData, error) {
	r, err := readRequest(L, method, target, options, at)
	if err != nil {
		return nil, err
	}
	ctx, done, err := c.reach(L, httpName, r.timeout, r.String)
	if err != nil {
		return nil, err
	}
	heard, ok := c.webSilences.of(r.req.URL.Host).begin()
	if !ok {
		err = fmt.Errorf("%s: %w", r, errSilent)
		done(err)
		return nil, err
	}
	result, failed := errLeft, errLeft
	defer func() { // a budget that is used up raises
		heard(failed)
		done(result)
	}()
	client := http.Client{Transport: c.transport(), CheckRedirect: checkRedirect}
	resp, err := client.Do(r.with(ctx))
	if err != nil {
		result = httpFault(ctx, err)
		return nil, fmt.Errorf("%s: %w", r, result)
	}
	defer resp.Body.Close()
	body, err := readBody(L, resp.Body)
	if err != nil {
		result = httpFault(ctx, err)
		return nil, fmt.Errorf("%s: %w", r, result)
	}
	failed = nil
	answer, err := newResponse(L, resp, body)
	result = err
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		result = errors.New(http.StatusText(resp.StatusCode)) // for who reads usher route
	}
	return answer, err
}

// checkRedirect lets follow what http and https redirect to, without telling
// where from: the query may hold what was meant for the first server.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("over %d redirects", maxRedirects)
	}
	if _, err := readURL(req.URL.String()); err != nil {
		return errors.New("a redirect to where usher does not go")
	}
	if req.URL.Scheme == "http" && via[len(via)-1].URL.Scheme == "https" {
		return errors.New("a redirect from https to http")
	}
	req.Header.Del("Referer")
	return nil
}

// httpFault is what went wrong, without the URL, which may have a password in
// it, and a query that is nobody's business.
func httpFault(ctx context.Context, err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return fmt.Errorf("the host is not found: %s", lookup.Err)
	}
	if strings.Contains(err.Error(), "Location header") { // which it shows
		return errors.New("a redirect to no valid URL")
	}
	return err
}
