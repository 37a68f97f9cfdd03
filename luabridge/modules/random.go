package modules

import (
	"math"
	"math/rand/v2"

	lua "github.com/yuin/gopher-lua"
)

// Random is math.random: a number of [0, 1), a whole one of 1 to m, or one of m
// to n. It draws from the request's own generator once that is seeded, so that
// no request sees or steers another's numbers.
func Random(L *lua.LState) int {
	c := CallOf(L)
	draw, uint64N := rand.Float64, rand.Uint64N
	if c.random != nil {
		draw, uint64N = c.random.Float64, c.random.Uint64N
	}
	if L.GetTop() == 0 {
		L.Push(lua.LNumber(draw()))
		return 1
	}
	low, high := 1.0, math.Floor(float64(L.CheckNumber(1)))
	if L.GetTop() > 1 {
		low, high = high, math.Floor(float64(L.CheckNumber(2)))
	}
	// Written so that NaN fails too.
	if !(low <= high) || !(high-low < 1<<53) {
		L.RaiseError("bad argument #%d to random (interval is empty or too large)", min(L.GetTop(), 2))
	}
	L.Push(lua.LNumber(low + float64(uint64N(uint64(high-low)+1))))
	return 1
}

// RandomSeed is math.randomseed: the same seed, the same numbers, whatever the
// request.
func RandomSeed(L *lua.LState) int {
	seed := math.Float64bits(float64(L.CheckNumber(1)))
	CallOf(L).random = rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // scripts choose backends with it, not keys
	return 0
}
