// Package lualib compiles Lua, and is Lua 5.1's string and table library and what
// of the others can take long or much, written so that each function says
// beforehand what it takes of the request's budget. gopher-lua's own run on past any deadline:
// a pattern with four (.-) on a name of 255 bytes takes it ten seconds.
//
// Results are those of Lua 5.1 (https://www.lua.org/manual/5.1/manual.html),
// with these differences: a byte 0 in a pattern or in what %s and %c print is a
// byte like others, as in Lua 5.2; %s takes every value, by tostring, whose numbers
// have as many digits as gopher-lua gives them; table.concat stops at the end of
// the table. Where scripts of Nauthilus could rely on it, gopher-lua's leniency
// stays.
//
// The package knows Lua and the budget, and nothing of requests.
package lualib
