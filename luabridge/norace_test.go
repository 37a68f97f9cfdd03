//go:build !race

package luabridge

const slowed = 1
