package modules

import (
	"math"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// timeModule is time, as github.com/vadv/gopher-lua-libs has it, but that sleep
// ends with the request's time.
var timeModule = Module{
	Name: "time",
	Doc:  "The time, and its forms. Layouts are Go's: `2006-01-02 15:04:05`. Zones are names such as `Europe/Vienna`.",
	Funcs: []Func{
		{Name: "unix", Do: func(L *lua.LState) int {
			L.Push(lua.LNumber(seconds(CallOf(L).Now())))
			return 1
		},
			Sig: `() -> seconds: number`, Doc: "The seconds since 1970, with a fraction.",
			Example: "local time = require(\"time\")\nprint(time.unix() > 1700000000) --> true"},
		{Name: "unix_nano", Do: func(L *lua.LState) int {
			L.Push(lua.LNumber(CallOf(L).Now().UnixNano()))
			return 1
		},
			Sig: `() -> nanoseconds: number`, Doc: "The nanoseconds since 1970.",
			Example: "local time = require(\"time\")\nprint(time.unix_nano() > 1.7e18) --> true"},
		{Name: "format", Do: timeFormat,
			Sig:     `(seconds: number, layout?: string, zone?: string) -> text: string?, err: string?`,
			Doc:     "A time as text; without a zone in that of the machine, without a layout as `Mon Jan 2 15:04:05 -0700 MST 2006`. nil and a text if there is no such zone.",
			Example: "local time = require(\"time\")\nprint((time.format(0, \"2006-01-02 15:04\", \"UTC\"))) --> 1970-01-01 00:00"},
		{Name: "parse", Do: timeParse,
			Sig:     `(text: string, layout: string, zone?: string) -> seconds: number?, err: string?`,
			Doc:     "Reads a time; one that says no zone is UTC, or in the zone that is given. nil and a text if the text does not fit.",
			Example: "local time = require(\"time\")\nprint((time.parse(\"1970-01-02\", \"2006-01-02\"))) --> 86400"},
		{Name: "sleep", Do: timeSleep,
			Sig:     `(seconds: number)`,
			Doc:     "Waits; no longer than the request's time, when it raises an error. A dry run does not wait.",
			Example: "local time = require(\"time\")\ntime.sleep(0.001)\nprint(\"awake\") --> awake"},
	},
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

// maxLayout is the longest layout, and text of a time, in bytes.
const maxLayout = 256

// zone is the zone that an argument names.
func zone(L *lua.LState, n int, otherwise *time.Location) (*time.Location, error) {
	name := L.OptString(n, "")
	if name == "" {
		return otherwise, nil
	}
	take(L, 2000, 16<<10) // the zone's file is read
	return time.LoadLocation(name[:min(len(name), 64)])
}

func timeFormat(L *lua.LState) int {
	at := float64(L.CheckNumber(1))
	layout := L.OptString(2, "Mon Jan 2 15:04:05 -0700 MST 2006")
	if len(layout) > maxLayout || math.IsNaN(at) || math.Abs(at) > 1e11 {
		return failText(L, "no such time or layout")
	}
	where, err := zone(L, 3, time.Local)
	if err != nil {
		return failText(L, "unknown time zone")
	}
	take(L, 50, 1024)
	whole, fraction := math.Modf(at)
	L.Push(lua.LString(time.Unix(int64(whole), int64(fraction*1e9)).In(where).Format(layout)))
	return 1
}

func timeParse(L *lua.LState) int {
	text, layout := L.CheckString(1), L.CheckString(2)
	if len(text) > maxLayout || len(layout) > maxLayout {
		return failText(L, "a time or layout that is too long")
	}
	where, err := zone(L, 3, time.UTC)
	if err != nil {
		return failText(L, "unknown time zone")
	}
	take(L, 100, 1024)
	at, err := time.ParseInLocation(layout, text, where)
	if err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	L.Push(lua.LNumber(seconds(at)))
	return 1
}

func timeSleep(L *lua.LState) int {
	n := float64(L.CheckNumber(1))
	if math.IsNaN(n) || n > math.MaxInt32 {
		L.RaiseError("bad argument #1 to sleep: %s seconds", number(lua.LNumber(n)))
	}
	CallOf(L).sleep(L, time.Duration(n*float64(time.Second)))
	return 0
}
