package luabridge

import (
	"strings"
	"testing"

	"go.uber.org/zap"

	"usher/proxy"
)

// Errors say what was wrong, in the script's own names, and what may have been
// meant.
func TestErrors(t *testing.T) {
	for statement, want := range map[string]string{
		// calls
		`local backend = require("nauthilus_backend") backend.select_backend_serer("a", 1)`: "attempt to call select_backend_serer, which nauthilus_backend has not; did you mean select_backend_server?",
		`nauthilus_backend.select_backend_serer("a", 1)`:                                    "attempt to call select_backend_serer, which nauthilus_backend has not; did you mean select_backend_server?",
		`require("nauthilus_backend").get_backend_server()`:                                 "attempt to call field get_backend_server (a nil value)",
		`nauthilus_backend.frobnicate()`:                                                    "attempt to call frobnicate, which nauthilus_backend has not",
		`usher.selct(1)`:                                                                    "attempt to call selct, which usher has not; did you mean select?",
		`string.uper("x")`:                                                                  "attempt to call uper, which string has not; did you mean upper?",
		`("x"):uper()`:                                                                      "attempt to call uper, which string has not; did you mean upper?",
		`local s = "x" s:uper()`:                                                            "attempt to call uper, which string has not; did you mean upper?",
		`local b = nauthilus_backend_result.new() b:atributes({})`:                          "attempt to call atributes, which nauthilus_backend_result has not; did you mean attributes?",
		`local s = nauthilus_backend.get_backend_servers()[1] s:host()`:                     "attempt to call method host (string \"127.0.0.2\")",
		`request.frobnicate()`:                                                              "attempt to call frobnicate, which request has not",
		`request.user_name()`:                                                               "attempt to call user_name, which request has not; did you mean username?",
		`prnt("x")`:                                                                         "attempt to call global prnt (a nil value); did you mean print?",
		`local function helper() end hepler()`:                                              "attempt to call global hepler (a nil value)",
		`helper = 1 helpr()`:                                                                "attempt to call global helpr (a nil value); did you mean helper?",
		`local f f()`:                                                                       "attempt to call local f (a nil value)",
		`local f = 1 f()`:                                                                   "attempt to call local f (number 1)",
		`local t = {} t.a.b()`:                                                              `attempt to index field a (a nil value) with key "b"`,
		`local t = {a = {}} t.a.b()`:                                                        "attempt to call field b (a nil value)",
		`local t = {} t[1]()`:                                                               "attempt to call a nil value",
		`local t = {route = print} t.rout()`:                                                "attempt to call field rout (a nil value); did you mean route?",
		`(function() return nil end)()()`:                                                   "attempt to call a nil value",
		`return frobnicate()`:                                                               "attempt to call global frobnicate (a nil value)",
		`for k, v in {} do end`:                                                             "attempt to loop over a table value; expected pairs(t), ipairs(t) or another iterator",
		`for k, v in nil do end`:                                                            "attempt to loop over a nil value; expected pairs(t), ipairs(t) or another iterator",

		// indexing
		`nauthilus_bakend.select_backend_server("a", 1)`: `attempt to index global nauthilus_bakend (a nil value) with key "select_backend_server"; did you mean nauthilus_backend?`,
		`local server server.host = 1`:                   `attempt to index local server (a nil value) with key "host"`,
		`local server return server[1]`:                  `attempt to index local server (a nil value) with key 1`,
		`return request.usrename.x`:                      `attempt to index field usrename (a nil value) with key "x"; did you mean username?`,
		`return request.username.x.y`:                    `attempt to index field x (a nil value) with key "y"`,
		`local n = 1 return n.x`:                         `attempt to index local n (number 1) with key "x"`,
		`for _, s in ipairs({}) do end usher.selec(1) if request then local a, b, c, d = 1, 2 end`:                   "attempt to call selec, which usher has not; did you mean select?",
		`for _, s in ipairs({}) do end local host = nil local x = host.name`:                                         `attempt to index local host (a nil value) with key "name"`,
		`for i = 1, 2 do local a, b = i, i end if request then local c = 1 end nauthilus_contxt.context_set("a", 1)`: `attempt to index global nauthilus_contxt (a nil value) with key "context_set"; did you mean nauthilus_context?`,
		`do local a, b, c = 1, 2, 3 end local x = nil x.y = 1`:                                                       `attempt to index local x (a nil value) with key "y"`,
		`local a, b = pcall(error) local c, d, e = unpack({1, 2}) return e.x`:                                        `attempt to index local e (a nil value) with key "x"`,
		`local function f(p, q) return q.x end f(1)`:                                                                 `attempt to index local q (a nil value) with key "x"`,
		`local t = {f = {1}} local u = t.f u.g.h = 1`:                                                                `attempt to index field g (a nil value) with key "h"`,
		`local a, b = true return (a or b).x.y`:                                                                      `attempt to index boolean true with key "x"`,
		`local s = "x" s.y = 1`:                                                                                      `attempt to index local s (string "x") with key "y"`,
		`usher.servers()[1].host = "x"`:                                                                              `attempt to index a userdata value with key "host"`,
		`local x = true return x:y()`:                                                                                `attempt to index local x (boolean true) with key "y"`,
		`local up; (function() return up.x end)()`:                                                                   `attempt to index upvalue up (a nil value) with key "x"`,

		// values
		`return "a" .. nil`:                           "attempt to concatenate a nil value",
		`local d return "a" .. d`:                     "attempt to concatenate local d (a nil value)",
		`return request.username .. request.nothing`:  "attempt to concatenate field nothing (a nil value)",
		`return "a" .. {} .. "b"`:                     "attempt to concatenate a table value",
		`return request.nothing + 1`:                  "attempt to perform arithmetic on field nothing (a nil value)",
		`local n = "12x" return n * 2`:                `attempt to perform arithmetic on local n (string "12x")`,
		`return request.username - 1`:                 `attempt to perform arithmetic on field username (string "alice")`,
		`return -{}`:                                  "attempt to perform arithmetic on a table value",
		`local t return #t`:                           "attempt to get the length of local t (a nil value)",
		`return #5`:                                   "attempt to get the length of number 5",
		`return request.username.x + #request.nosuch`: "attempt to get the length of field nosuch (a nil value)",
		`return 1 < "x"`:                              "attempt to compare number with string",
		`error("mine", 0)`:                            "mine",

		// arguments
		`usher.hash(1, {})`:           `bad argument #1 to hash (string expected, got number): 1`,
		`("x"):rep({})`:               "bad argument #2 to rep (number expected, got table)",
		`usher.hash("k", {1})`:        "bad argument #2 to hash (table of servers expected, its element 1 is a number)",
		`require("nauthilus_redis2")`: `module "nauthilus_redis2": not found: usher has no such module, and it is not in director.package_path`,
	} {
		if want == "" {
			continue
		}
		t.Run(statement, func(t *testing.T) {
			if got := luaError(t, statement); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// What is not there reads as nil, as shipped scripts expect.
func TestUnknownNamesAreNil(t *testing.T) {
	ask(t, `
		assert(nauthilus_builtin.FEATURE_RESULT_YES == nil and nauthilus_backend.nothing == nil and nothing == nil)
		assert(request.nothing == nil and ("x").nothing == nil and string.nothing == nil)
		assert(nauthilus_backend.get_backend_servers()[1].nothing == nil)
		if time_sleep_ms then time_sleep_ms(1) end`, query("alice"))
}

// An explained error is one like others: it can be caught, the script goes on,
// and it names file and line.
func TestExplainedErrorsAreCaught(t *testing.T) {
	v := ask(t, `
		local ok, err = pcall(function()
			usher.selct(1)
		end)
		assert(not ok and err:find("^test.lua:3: attempt to call selct"), err)
		ok, err = pcall(function() local x return x.y end)
		assert(not ok)
		local ok, err = coroutine.resume(coroutine.create(function() usher.selct(1) end))
		assert(not ok and err:find("did you mean select"), err)
		ok, err = xpcall(function() usher.selct(1) end, function(e) return e .. "!" end)
		assert(err:find("select%?!$"), err)
		-- metamethods still work
		local callable = setmetatable({}, {__call = function(_, x) return x end, __concat = function() return "c" end,
			__add = function() return "a" end, __len = function() return 7 end, __index = function(_, k) return k end, __unm = function() return "u" end})
		assert(callable(1) == 1 and callable .. "x" == "c" and "x" .. callable == "c" and callable + 1 == "a" and 1 + callable == "a")
		assert(callable.x == "x" and -callable == "u" and "10" + 1 == 11 and "0x10" * 1 == 16 and -"2" == -2)
		for _, x in setmetatable({}, {__call = function(_, s, c) if not c then return 1, 2 end end}) do assert(x == 2) end
		usher.select(usher.servers()[1])`, query("alice"))
	if !v.Selected {
		t.Errorf("verdict %+v", v)
	}
}

// The offending value is shown, but never a secret, and not much of it.
func TestErrorsStarSecrets(t *testing.T) {
	const secret = `s3cret-pässword-"quoted"`
	for _, body := range []string{
		`return request.password + 1`,
		`return request.password.x.y`,
		`local p = request.password return p()`,
		`local t = {} return t[request.password].x`,
		`local n return n[request.password]`,
		`usher.hold(request.password)`,
		`usher.hash("k", request.password)`,
		`nauthilus_backend.select_backend_server("h", request.password)`,
		`return ("x"):rep(55) .. request.password + 1`,
		`local x = (("x"):rep(55) .. request.password) return x + 1`,
		`error(("x"):rep(990) .. request.password)`,
		`string.format("%d", request.password)`,
		`tonumber("1", request.password)`,
		`loadstring(request.password .. "(")`,
		`assert(loadstring("x = " .. request.password))`,
		`usher.servers({tag = request.password, [request.password] = "x"})`,
	} {
		t.Run(body, func(t *testing.T) {
			logs, to := logTo(zap.DebugLevel)
			d := newDirector(t, inFilter("if request.session == 'probe' then return end "+body), to, func(o *Options) { o.Filters[0].NeedsPassword = true })
			q := query("alice")
			q.Request.Password = proxy.NewSecret(secret)
			v, err := d.Direct(t.Context(), q)
			text := logText(logs) + v.Text
			if err != nil {
				text += err.Error()
			}
			if strings.Contains(text, secret[:5]) || strings.Contains(text, "quoted") {
				t.Errorf("shown: %s", text)
			}
			if len(text) > 1500 {
				t.Errorf("%d bytes", len(text))
			}
		})
	}
}

// Test passwords of backends are for scripts to see, and not for logs.
func TestTestPasswordsAreStarred(t *testing.T) {
	const secret = "m0nitor-pw"
	for _, body := range []string{
		`print(s.test_password)`,
		`nauthilus_util.log_error({pw = s.test_password})`,
		`nauthilus_util.log_error({list = {pw = {s.test_password}, [s.test_password] = 1}})`,
		`usher.log("with " .. s.test_password)`,
		`nauthilus_builtin.custom_log_add("pw", s.test_password)`,
		`nauthilus_builtin.status_message_set(s.test_password) return true`,
		`error(s.test_password)`,
		`return s.test_password + 1`,
		`local t = {} return t[s.test_password].x`,
	} {
		t.Run(body, func(t *testing.T) {
			logs, to := logTo(zap.DebugLevel)
			q := query("alice")
			q.View = proxy.NewView([]proxy.Entry{{
				Server: &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143, TestUsername: "monitor", TestPassword: proxy.NewSecret(secret)},
				Health: proxy.Up,
			}})
			d := newDirector(t, inFilter(`local s = nauthilus_backend.get_backend_servers()[1] if not s then return end assert(s.test_password == "`+secret+`") `+body), to)
			v, err := d.Direct(t.Context(), q)
			text := logText(logs) + v.Text
			if err != nil {
				text += err.Error()
			}
			for _, a := range v.Logs {
				text += a.Name + a.Value
			}
			if strings.Contains(text, secret) {
				t.Errorf("shown: %s", text)
			}
		})
	}
}
