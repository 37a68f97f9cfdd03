---@meta nauthilus_misc
-- Written by make generate: do not edit.

---Odds and ends of Nauthilus.
---@class nauthilus_misclib
nauthilus_misc = {}

---The English name of a country by its two letters (ISO 3166-1), or `Unknown`.
---
---```lua
---local misc = require("nauthilus_misc")
---print(misc.get_country_name("AT")) --> Austria
---```
---@param code string
---@return string name
function nauthilus_misc.get_country_name(code) end

---Waits a random time of min to less than max milliseconds, which it returns; nil and a text where max is not the greater.
---The wait ends with the request's time: then it raises an error.
---
---```lua
---local misc = require("nauthilus_misc")
---print(misc.wait_random(1, 2)) --> 1
---```
---@param min number
---@param max number
---@return integer? waited
---@return string? err
function nauthilus_misc.wait_random(min, max) end

---The address as it is normally written: usher has no networks by which Nauthilus would group addresses. What is no address
---comes back as it is.
---
---```lua
---local misc = require("nauthilus_misc")
---print(misc.scoped_ip("2001:DB8:0::1")) --> 2001:db8::1
---```
---@param context string
---@param ip string
---@return string ip
---@overload fun(ip: string): string
function nauthilus_misc.scoped_ip(context, ip) end

return nauthilus_misc
