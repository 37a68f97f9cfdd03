// Package luabridge runs policies: it compiles Lua scripts once, keeps Lua
// states in a pool, gives each request an environment of its own and a budget,
// and turns what a script did into a proxy.Verdict. It implements
// proxy.Director.
//
// What scripts can require is in luabridge/modules. The bridge knows package
// proxy, and no wire format.
package luabridge
