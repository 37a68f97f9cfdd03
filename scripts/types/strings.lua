---@meta strings
-- Written by make generate: do not edit.

---What Lua's own `string` has not: texts are taken as they stand, without patterns. The readers and builders of
---gopher-lua-libs are left out.
---@class stringslib
local strings = {}

---The parts between the separators; without one, or with `""`, the characters (UTF-8).
---
---```lua
---local strings = require("strings")
---print(strings.split("alice@example.org", "@")[2]) --> example.org
---```
---@param text string
---@param separator? string
---@return string[] parts
function strings.split(text, separator) end

---The parts between white space.
---
---```lua
---local strings = require("strings")
---print(strings.fields(" a  b ")[2]) --> b
---```
---@param text string
---@return string[] parts
function strings.fields(text) end

---Whether a text begins with another.
---
---```lua
---local strings = require("strings")
---print(strings.has_prefix("alice", "al")) --> true
---```
---@param text string
---@param prefix string
---@return boolean yes
function strings.has_prefix(text, prefix) end

---Whether a text ends with another.
---
---```lua
---local strings = require("strings")
---print(strings.has_suffix("alice@example.org", ".org")) --> true
---```
---@param text string
---@param suffix string
---@return boolean yes
function strings.has_suffix(text, suffix) end

---Whether a text has another in it.
---
---```lua
---local strings = require("strings")
---print(strings.contains("alice@example.org", "@")) --> true
---```
---@param text string
---@param part string
---@return boolean yes
function strings.contains(text, part) end

---A text without the characters of the second at both its ends.
---
---```lua
---local strings = require("strings")
---print(strings.trim("--a--", "-")) --> a
---```
---@param text string
---@param cutset string
---@return string text
function strings.trim(text, cutset) end

---A text without another before it, if it stands there.
---
---```lua
---local strings = require("strings")
---print(strings.trim_prefix("usher-1", "usher-")) --> 1
---```
---@param text string
---@param prefix string
---@return string text
function strings.trim_prefix(text, prefix) end

---A text without another behind it, if it stands there.
---
---```lua
---local strings = require("strings")
---print(strings.trim_suffix("a.example.org", ".example.org")) --> a
---```
---@param text string
---@param suffix string
---@return string text
function strings.trim_suffix(text, suffix) end

---A text without white space at its ends.
---
---```lua
---local strings = require("strings")
---print(strings.trim_space(" a ")) --> a
---```
---@param text string
---@return string text
function strings.trim_space(text) end

return strings
