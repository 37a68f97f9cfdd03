package modules

// Entries are the functions by which usher enters scripts. A script defines those
// that it is configured for; an Example is a whole script.
var Entries = []Func{
	{
		Name: "nauthilus_call_filter",
		Sig:  "(request: nauthilus_request) -> action: boolean?, result: integer?",
		Doc: "Is asked for every request whose password was not refused, and for look-ups without a password (`director.script`), or for those that the filter's `when_…` flags name (`director.filters`). " +
			"`FILTER_REJECT`, or any `action` but false and nil, refuses the login; else it goes where a backend was selected.",
		Example: `function nauthilus_call_filter(request)
  local server = usher.sticky(usher.servers())
  if server then
    usher.select(server)
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end`,
	},
	{
		Name: "nauthilus_call_feature",
		Sig:  "(request: nauthilus_request) -> triggered: boolean?, skip_rest: boolean?, result: integer?",
		Doc: "Is asked before the password is verified (`director.features`), and not about look-ups. It routes nobody. " +
			"`FEATURE_TRIGGER_YES`, or any `triggered` but false and nil, refuses the login; `FEATURES_ABORT_YES` leaves the other features out.",
		Example: `function nauthilus_call_feature(request)
  if request.username:find("%s") then
    nauthilus_builtin.status_message_set("No spaces, please")
    return nauthilus_builtin.FEATURE_TRIGGER_YES, nauthilus_builtin.FEATURES_ABORT_NO, nauthilus_builtin.FEATURE_RESULT_OK
  end
  return nauthilus_builtin.FEATURE_TRIGGER_NO, nauthilus_builtin.FEATURES_ABORT_NO, nauthilus_builtin.FEATURE_RESULT_OK
end`,
	},
	{
		Name: "nauthilus_backend_verify_password",
		Sig:  "(request: nauthilus_request) -> status: integer, result: nauthilus_backend_result",
		Doc: "Verifies passwords (`passdb: [{driver: lua, script: FILE}]`). The account is the attribute that `account_field` names. Without `user_found` the next driver is asked; not `authenticated` is a wrong password. " +
			"Attributes with one value go to Dovecot. Any other `status` than `BACKEND_RESULT_OK` is a temporary failure. For look-ups `request.no_auth` is true, and there is no password.",
		Example: `local users = {alice = "secret"}

function nauthilus_backend_verify_password(request)
  local result = nauthilus_backend_result.new()
  local name = request.username:match("^[^@]*")
  if users[name] then
    result:user_found(true)
    result:account_field("account")
    result:attributes({account = name .. "@example.org"})
    result:authenticated(request.password == users[name])
  end
  return nauthilus_builtin.BACKEND_RESULT_OK, result
end`,
	},
	{
		Name: "nauthilus_backend_list_accounts",
		Sig:  "(request: nauthilus_request) -> status: integer, accounts: string[]",
		Doc:  "Lists all users, for `doveadm -A` and the like. It stands in the password driver's file. It has a hundred times a request's steps, sixteen times the memory, and 30 seconds.",
		Example: `function nauthilus_backend_verify_password(request)
  return nauthilus_builtin.BACKEND_RESULT_OK, nauthilus_backend_result.new()
end

function nauthilus_backend_list_accounts(request)
  return nauthilus_builtin.BACKEND_RESULT_OK, {"alice@example.org", "bob@example.org"}
end`,
	},
	{
		Name: "nauthilus_run_hook",
		Sig:  "(request: nauthilus_request)",
		Doc: "Runs once at start, and at each reload (`director.init`), to prepare what the other scripts use. It has ten times a request's steps, and 10 seconds. " +
			"What it raises is logged; usher serves all the same.",
		Example: `function nauthilus_run_hook(request)
  nauthilus_cache.cache_set("started", os.time())
end`,
	},
}

// Globals are functions that are in no module. The others of Lua 5.1's base
// library are as Lua's manual has them.
var Globals = []Func{
	{
		Name:    "print",
		Sig:     "(...: any)",
		Doc:     "Logs its arguments, parted by tabs, at level info. A script's run logs 100 lines at most.",
		Example: `print(request.username, #usher.servers()) --> alice@example.org 2`,
	},
	{
		Name: "require",
		Sig:  "(name: string) -> module: any",
		Doc: "Returns a module of this page, or what a Lua file of `director.package_path` returns; such a file runs afresh for each request. " +
			"Any other name raises an error, which says why where Nauthilus has such a module.",
		Example: `local cache = require("nauthilus_cache")
print(cache == nauthilus_cache) --> true
local ok, err = pcall(require, "nauthilus_policy")
print(ok) --> false`,
	},
	{
		Name: "dynamic_loader",
		Sig:  "(name: string)",
		Doc:  "Does nothing. Scripts of Nauthilus call it before `require`.",
		Example: `dynamic_loader("nauthilus_cache")
print(require("nauthilus_cache") == nauthilus_cache) --> true`,
	},
}
