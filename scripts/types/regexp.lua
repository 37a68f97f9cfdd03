---@meta regexp
-- Written by make generate: do not edit.

---An expression that regexp.compile made ready.
---@class regexp_ud
local regexp_ud_methods = {}

---Whether the expression is found in the text.
---
---```lua
---local regexp = require("regexp")
---print(regexp.compile("^a"):match("ba")) --> false
---```
---@param text string
---@return boolean matches
function regexp_ud_methods:match(text) end

---All places where the expression is found, each with its groups.
---
---```lua
---local regexp = require("regexp")
---print(regexp.compile("b(.)"):find_all_string_submatch("abc")[1][2]) --> c
---```
---@param text string
---@return string[][] found
function regexp_ud_methods:find_all_string_submatch(text) end

---Regular expressions as Go has them (RE2): no back references. An expression has 512 bytes at most, and 1000 steps when its
---repetitions are written out.
---@class regexplib
local regexp = {}

---Makes an expression ready, for use more than once. nil and a text if it is none.
---
---```lua
---local regexp = require("regexp")
---local digits = regexp.compile("^[0-9]+$")
---print(digits:match("143")) --> true
---print((regexp.compile("("))) --> nil
---```
---@param expression string
---@return regexp_ud? compiled
---@return string? err
function regexp.compile(expression) end

---Whether the expression is found in the text. nil and a text if it is no expression.
---
---```lua
---local regexp = require("regexp")
---print(regexp.match("@example[.]org$", request.username)) --> true
---```
---@param expression string
---@param text string
---@return boolean? matches
---@return string? err
function regexp.match(expression, text) end

---All places where the expression is found: of each the text, and what its groups found (`""` for one that found nothing).
---nil and a text if it is no expression.
---
---```lua
---local regexp = require("regexp")
---local found = regexp.find_all_string_submatch("([a-z]+)=([0-9]+)", "a=1 b=22")
---print(#found, found[2][1], found[2][3]) --> 2	b=22	22
---```
---@param expression string
---@param text string
---@return string[][]? found
---@return string? err
function regexp.find_all_string_submatch(expression, text) end

return regexp
