---@meta nauthilus_password
-- Written by make generate: do not edit.

---Compares passwords and looks at them. A filter or feature sees the password only with `needs_password: true`.
---@class nauthilus_passwordlib
nauthilus_password = {}

---Whether a password is the one of a hash: `{SSHA256}`, `{SSHA512}` (also `.B64`, `.HEX`), and the other schemes of the
---password driver `passwd_file`; without a scheme crypt's `$1$`, `$5$`, `$6$`, `$2y$`, `$argon2id$`. A hash that can't be
---read is false, and a text; so is what is longer than 4096 bytes, of slow hashes a password of over 1024. Where too many
---wait for slow hashes it raises an error: the login is told to try later.
---
---```lua
---local password = require("nauthilus_password")
---print(password.compare_passwords("{SHA256}A5BYxvLAy0ksUzsKTRTvd8wPeKvMztUofYShogEcoeE=", "b")) --> false	nil
---```
---@param hash string
---@param password string
---@return boolean equal
---@return string? err
function nauthilus_password.compare_passwords(hash, password) end

---Whether a password has as many characters of each kind, and in all as many bytes, as the policy wants.
---
---```lua
---local password = require("nauthilus_password")
---print(password.check_password_policy({min_length = 8, min_number = 1}, "abc")) --> false
---```
---@param policy {min_length?: integer, min_upper?: integer, min_lower?: integer, min_number?: integer, min_special?: integer}
---@param password string
---@return boolean good
function nauthilus_password.check_password_policy(policy, password) end

---Eight hex digits of a hash: enough to see in a log or in Redis whether two passwords are the same, too few to find one.
---The hash is another after a restart.
---
---```lua
---local password = require("nauthilus_password")
---print(#password.generate_password_hash("a")) --> 8
---```
---@param password string
---@return string hash
function nauthilus_password.generate_password_hash(password) end

return nauthilus_password
