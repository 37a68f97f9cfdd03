package lualib

import (
	"fmt"
	"math"
	"strconv"
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
	c := parseSpec(spec)
	switch verb {
	case 'c':
		c.precision = -1
		return c.text(string([]byte{byte(checkInt(L, arg))}))
	case 'd', 'i', 'u', 'o', 'x', 'X':
		return c.integer(verb, checkInt64(L, arg))
	case 'e', 'E', 'f', 'g', 'G':
		return c.float(verb, float64(checkNumber(L, arg)))
	case 'q':
		return quote(L, L.CheckString(arg))
	case 's':
		s := L.ToStringMeta(L.CheckAny(arg)).String()
		if spec == "" || c.precision < 0 && len(s) >= 100 {
			return s
		}
		return c.text(s)
	case 0:
		L.RaiseError("invalid option '%%' to 'format'")
	}
	L.RaiseError("invalid option '%%%c' to 'format'", verb)
	return ""
}

// checkInt64 cuts a number to a whole one. One that a C long cannot hold is
// taken modulo 2^64 where C leaves it open.
func checkInt64(L *lua.LState, arg int) int64 {
	f := math.Trunc(float64(checkNumber(L, arg)))
	switch {
	case f >= -1<<63 && f < 1<<63:
		return int64(f)
	case f >= 1<<63 && f < 1<<64:
		return int64(uint64(f))
	}
	return math.MinInt64
}

// A conversion is what stands between % and the letter.
type conversion struct {
	left, plus, space, alt, zero bool
	width                        int
	precision                    int // -1: none
}

func parseSpec(spec string) conversion {
	c := conversion{precision: -1}
	for spec != "" && strings.IndexByte("-+ #0", spec[0]) >= 0 {
		switch spec[0] {
		case '-':
			c.left = true
		case '+':
			c.plus = true
		case ' ':
			c.space = true
		case '#':
			c.alt = true
		case '0':
			c.zero = true
		}
		spec = spec[1:]
	}
	width, precision, ok := strings.Cut(spec, ".")
	c.width = number(width)
	if ok {
		c.precision = number(precision)
	}
	return c
}

// sign is what stands before a number that is not negative.
func (c *conversion) sign() string {
	switch {
	case c.plus:
		return "+"
	case c.space:
		return " "
	}
	return ""
}

// fill pads a number to the width: behind it, between prefix and digits with
// zeros, or before it.
func (c *conversion) fill(prefix, digits string, zeros bool) string {
	n := c.width - len(prefix) - len(digits)
	switch {
	case n <= 0:
		return prefix + digits
	case c.left:
		return prefix + digits + strings.Repeat(" ", n)
	case zeros:
		return prefix + strings.Repeat("0", n) + digits
	}
	return strings.Repeat(" ", n) + prefix + digits
}

// integer formats a whole number, as its letter says.
func (c *conversion) integer(verb byte, n int64) string {
	prefix, digits := "", ""
	switch verb {
	case 'd', 'i':
		prefix = c.sign()
		u := uint64(n)
		if n < 0 {
			prefix, u = "-", -u
		}
		digits = strconv.FormatUint(u, 10)
	case 'u':
		digits = strconv.FormatUint(uint64(n), 10)
	case 'o':
		digits = strconv.FormatUint(uint64(n), 8)
	case 'x', 'X':
		digits = strconv.FormatUint(uint64(n), 16)
		if c.alt && n != 0 {
			prefix = "0x"
		}
		if verb == 'X' {
			prefix, digits = strings.ToUpper(prefix), strings.ToUpper(digits)
		}
	}
	if n == 0 && c.precision == 0 {
		digits = ""
	}
	digits = strings.Repeat("0", max(c.precision-len(digits), 0)) + digits
	if verb == 'o' && c.alt && !strings.HasPrefix(digits, "0") {
		digits = "0" + digits
	}
	return c.fill(prefix, digits, c.zero && c.precision < 0)
}

// float formats a number, as its letter says.
func (c *conversion) float(verb byte, f float64) string {
	prefix := c.sign()
	if math.Signbit(f) {
		prefix = "-"
	}
	var digits string
	switch {
	case math.IsNaN(f):
		digits = "nan"
	case math.IsInf(f, 0):
		digits = "inf"
	default:
		precision := c.precision
		if precision < 0 {
			precision = 6
		}
		// The form that # asks for keeps the point, and zeros behind it.
		form := "%." + strconv.Itoa(precision) + string(verb)
		if c.alt {
			form = "%#" + form[1:]
		}
		return c.fill(prefix, fmt.Sprintf(form, math.Abs(f)), c.zero)
	}
	if verb < 'a' {
		digits = strings.ToUpper(digits)
	}
	return c.fill(prefix, digits, false)
}

// text is %s: bytes, not characters.
func (c *conversion) text(s string) string {
	if c.precision >= 0 && c.precision < len(s) {
		s = s[:c.precision]
	}
	return c.fill("", s, false)
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
