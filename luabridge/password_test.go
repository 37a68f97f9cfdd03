package luabridge

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/proxy"
	"usher/proxy/passdb"
)

// A policy sees the password only when its configuration says so.
func TestPasswordIsShownOnRequest(t *testing.T) {
	d := newDirector(t, ``, func(o *Options) {
		o.Filters = []Filter{
			{Name: "blind", Text: inFilter(`
				for k, v in pairs(request) do assert(not tostring(v):find("s3cret", 1, true), k) end
				assert(request.password == "" and rawget(request, "password") == "")`), WhenAuthenticated: true},
			{Name: "sees", Text: inFilter(`assert(request.password == "s3cret")`), WhenAuthenticated: true, NeedsPassword: true},
			{Name: "blind again", Text: inFilter(`assert(request.password == "")`), WhenAuthenticated: true},
		}
	})
	direct(t, d, query("alice"))
	for needs, want := range map[bool]string{false: "", true: "s3cret"} {
		d := newDirector(t, inFilter(""), func(o *Options) {
			o.Features = []Script{feature("one", `return request.password ~= "`+want+`" and request.session ~= "probe"`)}
			o.Features[0].NeedsPassword = needs
		})
		if v, err := d.Before(t.Context(), query("alice")); err != nil || v.Refused {
			t.Errorf("a feature, needs_password: %v: %+v, %v", needs, v, err)
		}
	}
}

// A policy that sees it cannot print it: not in a log, not in an error, not in
// what the client or the operator is shown.
func TestPasswordIsNeverPrinted(t *testing.T) {
	const secret = `pa$$%w"o\rd/../(.-)x`
	for name, body := range map[string]string{
		"print":              `print("it is", request.password)`,
		"print, long":        `print(("x"):rep(4090) .. request.password)`,
		"print, __tostring":  `local p = request.password print(setmetatable({}, {__tostring = function() return p end}))`,
		"log text":           `nauthilus_util.log_error("got " .. request.password)`,
		"log text, error":    `nauthilus_util.log_error("got", request.password)`,
		"log table":          `nauthilus_util.log_error(request, {pw = request.password})`,
		"log table's key":    `nauthilus_util.log_error(request, {[request.password] = 1})`,
		"log nested table":   `nauthilus_util.log_error(request, {list = {request.password, {[request.password] = "<" .. request.password}}})`,
		"log whole request":  `nauthilus_util.log_error(request, request)`,
		"log error":          `nauthilus_util.log_error(request, {}, request.password)`,
		"log with level":     `nauthilus_util.log(request, "error", request.password, request.password)`,
		"print_result":       `nauthilus_util.print_result(request, {x = request.password}, request.password)`,
		"usher.log":          `usher.log(request.password)`,
		"custom log":         `nauthilus_builtin.custom_log_add("pw", request.password)`,
		"custom log's key":   `nauthilus_builtin.custom_log_add(request.password, 1)`,
		"text for client":    `nauthilus_builtin.status_message_set("no " .. request.password) return true`,
		"deny":               `usher.deny(request.password)`,
		"error":              `error(request.password)`,
		"error, long":        `error(("x"):rep(982) .. request.password)`,
		"error, level 0":     `error(request.password, 0)`,
		"assert":             `assert(false, request.password)`,
		"index":              `local t = {} return t[request.password].x`,
		"call":               `local t = {} t[request.password]()`,
		"require":            `require(request.password)`,
		"chunk name, error":  `loadstring("error('x')", request.password)()`,
		"chunk name, budget": `loadstring("while true do end", request.password)()`,
		"chunk name, syntax": `assert(loadstring("x =", request.password))`,
		"filter's name":      `usher.servers({[request.password] = 1})`,
		"coroutine":          `coroutine.wrap(function() error(request.password) end)()`,
		"trace":              `nauthilus_backend.check_backend_connection(request.password, "127.0.0.2", 143) nauthilus_backend.select_backend_server(request.password, 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			logs, to := logTo(zap.DebugLevel)
			d := newDirector(t, inFilter(body), to, func(o *Options) { o.Filters[0].NeedsPassword, o.Limits.Steps = true, 20000 })
			q := query("alice")
			q.Request.Password = proxy.NewSecret(secret)
			var shown strings.Builder
			q.Trace = func(step string) { shown.WriteString(step) }
			v, err := d.Direct(t.Context(), q)
			if err != nil {
				shown.WriteString(err.Error())
			}
			shown.WriteString(v.Text)
			for _, a := range v.Logs {
				shown.WriteString(a.Name + a.Value)
			}
			for _, e := range logs.All() {
				for k, v := range e.ContextMap() {
					shown.WriteString(k)
					if s, ok := v.(string); ok {
						shown.WriteString(s)
					}
				}
			}
			shown.WriteString(logText(logs))
			// Five bytes would be a start, for somebody who guesses.
			if strings.Contains(shown.String(), secret[:5]) {
				t.Errorf("shown: %.300s", shown.String())
			}
		})
	}
}

// What a script that sees the password tells those after it is starred there too.
func TestPassword_Told(t *testing.T) {
	logs, to := logTo(zapcore.DebugLevel)
	d := newDirector(t, inFilter(`print("it is " .. nauthilus_context.context_get("p"))`), to)
	p, _, err := d.NewPassdb(Script{Name: "users", Path: "users.lua", Text: `function nauthilus_backend_verify_password(request)
		nauthilus_context.context_set("p", request.password)
		return 0, nauthilus_backend_result.new()
	end`}, false)
	if err != nil {
		t.Fatal(err)
	}
	q := query("alice")
	if _, err := p.Lookup(t.Context(), q.Request); !errors.Is(err, passdb.ErrUnknownUser) {
		t.Fatal(err)
	}
	direct(t, d, q)
	if got := logText(logs); strings.Contains(got, "s3cret") || !strings.Contains(got, "it is ********") {
		t.Error(got)
	}
}
