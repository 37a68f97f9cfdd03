---@meta nauthilus_backend_result
-- Written by make generate: do not edit.

---A result. Each method sets with an argument, and returns nothing then; without one it gets.
---@class nauthilus_backend_result
local nauthilus_backend_result_methods = {}

---The attributes by name, each a text, a number, a boolean or a list; a copy both ways. Setting replaces all; 256 are kept
---at most, and names that are no texts are dropped. One that was never set has `{}`.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:attributes({quota = 1000000, lists = {"a", "b"}})
---local attributes = result:attributes()
---print(attributes.quota, attributes.lists[2], attributes.other) --> 1000000 b nil
---```
---@return table<string, any> attributes
---@overload fun(self: nauthilus_backend_result, attributes: table<string, any>)
function nauthilus_backend_result_methods:attributes() end

---The password was right. A password driver must say so; in filters it does nothing. False until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:authenticated(true)
---print(result:authenticated()) --> true
---```
---@return boolean authenticated
---@overload fun(self: nauthilus_backend_result, authenticated: boolean)
function nauthilus_backend_result_methods:authenticated() end

---There is such a user. Without it, a password driver lets the next one be asked; in filters it does nothing. False until it
---is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:user_found(true)
---print(result:user_found()) --> true
---```
---@return boolean user_found
---@overload fun(self: nauthilus_backend_result, user_found: boolean)
function nauthilus_backend_result_methods:user_found() end

---The name of the attribute that is the user's account. A password driver must set it. `""` until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:account_field("account")
---print(result:account_field()) --> account
---```
---@return string name
---@overload fun(self: nauthilus_backend_result, name: string)
function nauthilus_backend_result_methods:account_field() end

---Nauthilus' field of the TOTP secret; usher keeps the text, and does nothing with it. `""` until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:totp_secret_field("totp_secret")
---print(result:totp_secret_field()) --> totp_secret
---```
---@return string name
---@overload fun(self: nauthilus_backend_result, name: string)
function nauthilus_backend_result_methods:totp_secret_field() end

---Nauthilus' field of the TOTP recovery codes; usher keeps the text, and does nothing with it. `""` until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:totp_recovery_field("totp_recovery")
---print(result:totp_recovery_field()) --> totp_recovery
---```
---@return string name
---@overload fun(self: nauthilus_backend_result, name: string)
function nauthilus_backend_result_methods:totp_recovery_field() end

---Nauthilus' field of the user's id; usher keeps the text, and does nothing with it. `""` until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:unique_user_id_field("unique_user_id")
---print(result:unique_user_id_field()) --> unique_user_id
---```
---@return string name
---@overload fun(self: nauthilus_backend_result, name: string)
function nauthilus_backend_result_methods:unique_user_id_field() end

---Nauthilus' field of the name that people read; usher keeps the text, and does nothing with it. `""` until it is set.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:display_name_field("display_name")
---print(result:display_name_field()) --> display_name
---```
---@return string name
---@overload fun(self: nauthilus_backend_result, name: string)
function nauthilus_backend_result_methods:display_name_field() end

---Makes results: what `nauthilus_backend.apply_backend_result` takes, of which only the attributes count there, and what a
---password driver returns.
---@class nauthilus_backend_resultlib
nauthilus_backend_result = {}

---Returns an empty result. `nauthilus_backend_result:new()` is the same.
---
---```lua
---local result = nauthilus_backend_result.new()
---result:attributes({nopassword = true})
---nauthilus_backend.apply_backend_result(result)
---```
---@return nauthilus_backend_result result
function nauthilus_backend_result.new() end

return nauthilus_backend_result
