// Package scripts holds the Lua policies that ship with usher.
package scripts

import _ "embed" // for the policies

// Director is the built-in policy, scripts/director.lua.
//
//go:embed director.lua
var Director string
