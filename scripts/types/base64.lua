---@meta base64
-- Written by make generate: do not edit.

---One of `base64.StdEncoding`, `RawStdEncoding`, `URLEncoding`, `RawURLEncoding`.
---@class base64_encoding
local base64_encoding_methods = {}

---Writes a text in base64.
---
---```lua
---local base64 = require("base64")
---print(base64.StdEncoding:encode_to_string("hello")) --> aGVsbG8=
---```
---@param text string
---@return string text
function base64_encoding_methods:encode_to_string(text) end

---Reads base64; nil and a text if it is none.
---
---```lua
---local base64 = require("base64")
---print((base64.RawURLEncoding:decode_string("aGVsbG8"))) --> hello
---```
---@param text string
---@return string? text
---@return string? err
function base64_encoding_methods:decode_string(text) end

---Base64 (RFC 4648), by four encodings: with padding or without (`Raw…`), for texts or for URLs. The encoders and decoders
---of streams that gopher-lua-libs has are left out.
---@class base64lib
---@field StdEncoding base64_encoding With + and /, and padding.
---@field RawStdEncoding base64_encoding With + and /, without padding.
---@field URLEncoding base64_encoding With - and _, and padding.
---@field RawURLEncoding base64_encoding With - and _, without padding.
local base64 = {}

return base64
