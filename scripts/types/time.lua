---@meta time
-- Written by make generate: do not edit.

---The time, and its forms. Layouts are Go's: `2006-01-02 15:04:05`. Zones are names such as `Europe/Vienna`.
---@class timelib
local time = {}

---The seconds since 1970, with a fraction.
---
---```lua
---local time = require("time")
---print(time.unix() > 1700000000) --> true
---```
---@return number seconds
function time.unix() end

---The nanoseconds since 1970.
---
---```lua
---local time = require("time")
---print(time.unix_nano() > 1.7e18) --> true
---```
---@return number nanoseconds
function time.unix_nano() end

---A time as text; without a zone in that of the machine, without a layout as `Mon Jan 2 15:04:05 -0700 MST 2006`. nil and a
---text if there is no such zone.
---
---```lua
---local time = require("time")
---print((time.format(0, "2006-01-02 15:04", "UTC"))) --> 1970-01-01 00:00
---```
---@param seconds number
---@param layout? string
---@param zone? string
---@return string? text
---@return string? err
function time.format(seconds, layout, zone) end

---Reads a time; one that says no zone is UTC, or in the zone that is given. nil and a text if the text does not fit.
---
---```lua
---local time = require("time")
---print((time.parse("1970-01-02", "2006-01-02"))) --> 86400
---```
---@param text string
---@param layout string
---@param zone? string
---@return number? seconds
---@return string? err
function time.parse(text, layout, zone) end

---Waits; no longer than the request's time, when it raises an error. A dry run does not wait.
---
---```lua
---local time = require("time")
---time.sleep(0.001)
---print("awake") --> awake
---```
---@param seconds number
function time.sleep(seconds) end

return time
