package lualib

import (
	"fmt"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// maxDate is the longest format that os.date takes.
const maxDate = 1000

// OpenOs makes what policies have of os: the time.
func OpenOs(L *lua.LState, theirs *lua.LTable) *lua.LTable {
	get := func(name string) lua.LGFunction { return theirs.RawGetString(name).(*lua.LFunction).GFunction }
	osTime := get("time")
	return L.SetFuncs(L.CreateTable(0, 5), map[string]lua.LGFunction{
		"clock":    get("clock"),
		"date":     date,
		"difftime": get("difftime"),
		"time": func(L *lua.LState) int {
			if L.Get(1) == lua.LNil {
				L.Push(lua.LNumber(budget.Of(L).Now().Unix()))
				return 1
			}
			if t, ok := L.Get(1).(*lua.LTable); ok {
				for _, name := range []string{"year", "month", "day", "hour", "min", "sec"} {
					if s, ok := t.RawGetString(name).(lua.LString); ok && len(s) > maxNumber {
						L.RaiseError("field '%s' is no number", name)
					}
				}
			}
			return osTime(L)
		},
	})
}

// date is os.date([format [, time]]): C's strftime in the C locale, or *t for a
// table. ! before it is UTC.
func date(L *lua.LState) int {
	format, at := L.OptString(1, "%c"), budget.Of(L).Now()
	if L.Get(2) != lua.LNil {
		at = time.Unix(int64(checkInt(L, 2)), 0)
	}
	if len(format) > maxDate {
		L.ArgError(1, fmt.Sprintf("a format of %d bytes, at most %d", len(format), maxDate))
	}
	b := budget.Of(L)
	b.Alloc(L, 3000+30*len(format))
	b.Work(L, 20+4*len(format))
	if rest, utc := strings.CutPrefix(format, "!"); utc {
		format, at = rest, at.In(gmt)
	}
	if strings.HasPrefix(format, "*t") {
		t := L.CreateTable(0, 9)
		for name, n := range map[string]int{
			"year": at.Year(), "month": int(at.Month()), "day": at.Day(), "hour": at.Hour(), "min": at.Minute(), "sec": at.Second(),
			"wday": int(at.Weekday()) + 1, "yday": at.YearDay(),
		} {
			t.RawSetString(name, lua.LNumber(n))
		}
		t.RawSetString("isdst", lua.LBool(at.IsDST()))
		L.Push(t)
		return 1
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		dateField(&out, at, format[i])
	}
	L.Push(lua.LString(out.String()))
	return 1
}

// gmt is UTC, by the name that C has for it.
var gmt = time.FixedZone("GMT", 0)

// strftime are conversions that Go's time has a layout for.
var strftime = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06",
	'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04", 'p': "PM", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05",
	'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

func dateField(out *strings.Builder, at time.Time, c byte) {
	year, week := at.ISOWeek()
	switch c {
	case '%':
		out.WriteByte('%')
	case 'n':
		out.WriteByte('\n')
	case 't':
		out.WriteByte('\t')
	case 'C':
		fmt.Fprintf(out, "%02d", at.Year()/100)
	case 'g':
		fmt.Fprintf(out, "%02d", year%100)
	case 'G':
		fmt.Fprintf(out, "%d", year)
	case 'j':
		fmt.Fprintf(out, "%03d", at.YearDay())
	case 's':
		fmt.Fprintf(out, "%d", at.Unix())
	case 'u':
		fmt.Fprintf(out, "%d", (int(at.Weekday())+6)%7+1)
	case 'U':
		fmt.Fprintf(out, "%02d", (at.YearDay()+6-int(at.Weekday()))/7)
	case 'V':
		fmt.Fprintf(out, "%02d", week)
	case 'w':
		fmt.Fprintf(out, "%d", at.Weekday())
	case 'W':
		fmt.Fprintf(out, "%02d", (at.YearDay()+6-(int(at.Weekday())+6)%7)/7)
	default:
		layout, ok := strftime[c]
		if !ok {
			out.WriteByte('%')
			out.WriteByte(c)
			return
		}
		out.WriteString(at.Format(layout))
	}
}
