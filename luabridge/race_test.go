//go:build race

package luabridge

// slowed is how much slower the race detector makes all.
const slowed = 8
