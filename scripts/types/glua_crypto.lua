---@meta glua_crypto
-- Written by make generate: do not edit.

---Digests and ciphers. Results are hex digits; with `raw`, or the option RAW_DATA, the bytes themselves. Not for storing
---passwords: see `nauthilus_password`.
---@class glua_cryptolib
local glua_crypto = {}

---As options: bytes, not hex digits.
glua_crypto.RAW_DATA = 1

---The digest of a text.
---
---```lua
---local crypto = require("glua_crypto")
---print(crypto.md5("hello")) --> 5d41402abc4b2a76b9719d911017c592
---```
---@param text string
---@param raw? boolean
---@return string digest
function glua_crypto.md5(text, raw) end

---The digest of a text.
---
---```lua
---local crypto = require("glua_crypto")
---print(crypto.sha1("hello")) --> aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d
---```
---@param text string
---@param raw? boolean
---@return string digest
function glua_crypto.sha1(text, raw) end

---The digest of a text.
---
---```lua
---local crypto = require("glua_crypto")
---print(crypto.sha256("hello")) --> 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
---```
---@param text string
---@param raw? boolean
---@return string digest
function glua_crypto.sha256(text, raw) end

---The digest of a text.
---
---```lua
---local crypto = require("glua_crypto")
---print(crypto.sha512("hello")) --> 9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043
---```
---@param text string
---@param raw? boolean
---@return string digest
function glua_crypto.sha512(text, raw) end

---The digest of a text.
---
---```lua
---local crypto = require("glua_crypto")
---print(crypto.crc32("hello")) --> 3610a686
---```
---@param text string
---@param raw? boolean
---@return string digest
function glua_crypto.crc32(text, raw) end

---A keyed digest (RFC 2104).
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.hmac("sha256", "hello", "key"))) --> 9307b3b915efb5171ff14d8cb55fbcc798c6c0ef1456d66ded1a6aa723a58b7b
---```
---@param algorithm "md5"|"sha1"|"sha256"|"sha512"
---@param text string
---@param key string
---@param raw? boolean
---@return string? mac
---@return string? err
function glua_crypto.hmac(algorithm, text, key, raw) end

---Writes a text in base64 (RFC 4648).
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.base64_encode("hello"))) --> aGVsbG8=
---```
---@param text string
---@return string? text
---@return string? err
function glua_crypto.base64_encode(text) end

---Reads base64 (RFC 4648); nil and a text if it is none.
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.base64_decode("aGVsbG8="))) --> hello
---```
---@param text string
---@return string? text
---@return string? err
function glua_crypto.base64_decode(text) end

---Writes a text in base64 (RFC 4648).
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.base64_url_encode("hello"))) --> aGVsbG8=
---```
---@param text string
---@return string? text
---@return string? err
function glua_crypto.base64_url_encode(text) end

---Reads base64 (RFC 4648); nil and a text if it is none.
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.base64_url_decode("aGVsbG8="))) --> hello
---```
---@param text string
---@return string? text
---@return string? err
function glua_crypto.base64_url_decode(text) end

---Encrypts, with PKCS #7 padding.
---
---```lua
---local crypto = require("glua_crypto")
---print((crypto.encrypt("hello", "aes-cbc", "0123456789abcdef", 0, "0123456789abcdef"))) --> 30e7cbb71cd9d18812e3ee5c3f294563
---```
---@param text string
---@param cipher "aes-cbc"|"des-cbc"|"des-ecb"
---@param key string
---@param options integer
---@param iv? string
---@return string? secret
---@return string? err
function glua_crypto.encrypt(text, cipher, key, options, iv) end

---Decrypts what encrypt made.
---
---```lua
---local crypto = require("glua_crypto")
---local secret = crypto.encrypt("hello", "aes-cbc", "0123456789abcdef", 0, "0123456789abcdef")
---print((crypto.decrypt(secret, "aes-cbc", "0123456789abcdef", 0, "0123456789abcdef"))) --> hello
---```
---@param secret string
---@param cipher "aes-cbc"|"des-cbc"|"des-ecb"
---@param key string
---@param options integer
---@param iv? string
---@return string? text
---@return string? err
function glua_crypto.decrypt(secret, cipher, key, options, iv) end

return glua_crypto
