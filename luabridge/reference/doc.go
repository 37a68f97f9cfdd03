// Package reference writes what people and editors read about the Lua API:
// docs/lua-api.md, and annotations for the language server LuaLS in
// scripts/types. Both are made of the tables of luabridge/modules, which make the
// API itself; `make generate` writes them, and a test fails when they are not
// what would be written.
//
// It knows the tables alone: no Lua state, no request.
package reference
