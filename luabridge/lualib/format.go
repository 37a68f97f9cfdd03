package lualib

import (
	"fmt"
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// strFormat is string.format. Width and precision have two digits at most, so
// that no conversion makes much of little.
func strFormat(L *lua.LState) int {
	format := L.CheckString(1)
	var out buffer
	arg := 1
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		out.add(L, format[:i])
		format = format[i+1:]
		if format != "" && format[0] == '%' {
			out.add(L, "%")
			format = format[1:]
			continue
		}
		spec, verb := scan(L, format)
		format = format[min(len(spec)+1, len(format)):]
		arg++
		out.add(L, convert(L, spec, verb, arg))
	}
	out.add(L, format)
	L.Push(lua.LString(out.String()))
	return 1
}

// scan splits what follows a % into flags, width and precision, and the letter.
func scan(L *lua.LState, s string) (spec string, verb byte) {
	i := 0
	for i < len(s) && strings.IndexByte("-+ #0", s[i]) >= 0 {
		i++
	}
	if i > 5 {
		L.RaiseError("invalid format (repeated flags)")
	}
	digits := func() {
		for n := 0; n < 2 && i < len(s) && isDigit(s[i]); n++ {
			i++
		}
	}
	digits()
	if i < len(s) && s[i] == '.' {
		i++
		digits()
	}
	switch {
	case i < len(s) && isDigit(s[i]):
		L.RaiseError("invalid format (width or precision too long)")
	case i == len(s):
		return s, 0
	}
	return s[:i], s[i]
}

// convert formats one argument as C's printf does.
func convert(L *lua.LState, spec string, verb byte, arg int) string {
	switch verb {
	case 'c':
		c := string([]byte{byte(checkInt(L, arg))})
		return pad(spec, c)
	case 'd', 'i':
		return integer(spec, 'd', checkInt64(L, arg))
	case 'u':
		return integer(strings.Trim(spec, "+ "), 'd', uint64(checkInt64(L, arg)))
	case 'o', 'x', 'X':
		n := uint64(checkInt64(L, arg))
		if n == 0 {
			spec = strings.ReplaceAll(spec, "#", "")
		}
		return integer(spec, verb, n)
	case 'e', 'E', 'f', 'g', 'G':
		return float(spec, verb, float64(L.CheckNumber(arg)))
	case 'q':
		return quote(L, L.CheckString(arg))
	case 's':
		s := L.ToStringMeta(L.CheckAny(arg)).String()
		if spec == "" || !strings.Contains(spec, ".") && len(s) >= 100 {
			return s
		}
		return pad(spec, s)
	case 0:
		L.RaiseError("invalid option '%%' to 'format'")
	}
	L.RaiseError("invalid option '%%%c' to 'format'", verb)
	return ""
}

// checkInt64 cuts a number to a whole one. One that a C long cannot hold is
// taken modulo 2^64 where C leaves it open.
func checkInt64(L *lua.LState, arg int) int64 {
	f := math.Trunc(float64(L.CheckNumber(arg)))
	switch {
	case f >= -1<<63 && f < 1<<63:
		return int64(f)
	case f >= 1<<63 && f < 1<<64:
		return int64(uint64(f))
	}
	return math.MinInt64
}

// integer formats a whole number. With a precision C ignores the flag 0.
func integer(spec string, verb byte, n any) string {
	if flags, rest, ok := strings.Cut(spec, "."); ok {
		i := len(flags) - len(strings.TrimLeft(flags, "-+ #0"))
		if rest == "" {
			rest = "0"
		}
		spec = strings.ReplaceAll(flags[:i], "0", "") + flags[i:] + "." + rest
	}
	return fmt.Sprintf("%"+spec+string(verb), n)
}

// float formats a number, with C's words for what is none.
func float(spec string, verb byte, f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		word := "nan"
		if math.IsInf(f, 0) {
			word = "inf"
		}
		i := len(spec) - len(strings.TrimLeft(spec, "-+ #0"))
		flags := spec[:i]
		switch {
		case math.Signbit(f):
			word = "-" + word
		case strings.Contains(flags, "+"):
			word = "+" + word
		case strings.Contains(flags, " "):
			word = " " + word
		}
		if verb < 'a' {
			word = strings.ToUpper(word)
		}
		width, _, _ := strings.Cut(spec[i:], ".")
		if strings.Contains(flags, "-") {
			width = "-" + width
		}
		return pad(width, word)
	}
	if !strings.Contains(spec, ".") {
		spec += ".6"
	} else if strings.HasSuffix(spec, ".") {
		spec += "0"
	}
	return fmt.Sprintf("%"+spec+string(verb), f)
}

// pad is %s and %c: bytes, not characters.
func pad(spec, s string) string {
	left := strings.Contains(spec, "-")
	width, prec, cut := strings.Cut(strings.TrimLeft(spec, "-+ #0"), ".")
	if n := number(prec); cut && n < len(s) {
		s = s[:n]
	}
	fill := strings.Repeat(" ", max(number(width)-len(s), 0))
	if left {
		return s + fill
	}
	return fill + s
}

// number reads at most two digits.
func number(s string) int {
	n := 0
	for i := range len(s) {
		n = 10*n + int(s[i]-'0')
	}
	return n
}

// quote is %q: a text as Lua reads it back.
func quote(L *lua.LState, s string) string {
	var out buffer
	out.add(L, `"`)
	for {
		i := strings.IndexAny(s, "\"\\\n\r\x00")
		if i < 0 {
			break
		}
		out.add(L, s[:i])
		switch s[i] {
		case '\r':
			out.add(L, `\r`)
		case 0:
			out.add(L, `\000`)
		default:
			out.add(L, `\`+s[i:i+1])
		}
		s = s[i+1:]
	}
	out.add(L, s)
	out.add(L, `"`)
	return out.String()
}
