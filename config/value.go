package config

import (
	"encoding"
	"io/fs"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"usher/proxy"
)

// A valueError says why a text is not a value of its type. It does not repeat
// the text.
type valueError struct {
	problem  string // "": bad value
	expected string
}

// Error implements error.
func (e *valueError) Error() string {
	problem := e.problem
	if problem == "" {
		problem = "bad value"
	}
	return problem + "; expected " + e.expected
}

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// String returns the size in the largest unit that leaves no fraction.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return "0B"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a whole number with one of the units B, KiB, MiB, GiB, or
// without a unit: bytes.
func (s *Size) UnmarshalText(b []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(b), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || int64(n) > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(int64(n) * u.bytes)
		return nil
	}
	return &valueError{expected: expectedOf(reflect.TypeFor[Size]())}
}

// Mode is the permission bits of a socket. 0: not set.
type Mode uint32

// FileMode returns the bits for os.Chmod.
func (m Mode) FileMode() fs.FileMode { return fs.FileMode(m) }

// String returns four octal digits, or "" when not set.
func (m Mode) String() string {
	if m == 0 {
		return ""
	}
	s := strconv.FormatUint(uint64(m), 8)
	return strings.Repeat("0", max(0, 4-len(s))) + s
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads three or four octal digits, at most 0777; empty: not set.
func (m *Mode) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = 0
		return nil
	}
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || len(b) < 3 || len(b) > 4 || n > 0o777 {
		return &valueError{expected: expectedOf(reflect.TypeFor[Mode]())}
	}
	*m = Mode(n)
	return nil
}

// Status is what a good HTTP answer has: a class such as "2xx", or a number.
type Status string

// Matches reports whether code is such a status.
func (s Status) Matches(code int) bool {
	if len(s) == 3 && s[1:] == "xx" {
		return code/100 == int(s[0]-'0')
	}
	return string(s) == strconv.Itoa(code)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(b []byte) error {
	t := string(b)
	ok := len(t) == 3 && t[0] >= '1' && t[0] <= '5'
	if ok && t[1:] != "xx" {
		_, err := strconv.ParseUint(t, 10, 16)
		ok = err == nil
	}
	if !ok {
		return &valueError{expected: expectedOf(reflect.TypeFor[Status]())}
	}
	*s = Status(t)
	return nil
}

// expectedOf describes the texts of a type.
func expectedOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 500ms, 2s or 15m"
	case reflect.TypeFor[Size]():
		return "a size such as 512KiB or 16MiB"
	case reflect.TypeFor[Mode]():
		return `an octal file mode such as "0660"`
	case reflect.TypeFor[Status]():
		return "a class such as 2xx, or a number from 100 to 599"
	case reflect.TypeFor[netip.Prefix]():
		return "an address range such as 192.0.2.0/24"
	case reflect.TypeFor[Address]():
		return addressForm
	case reflect.TypeFor[proxy.Secret]():
		return "text, ${VARIABLE} or file:/PATH"
	}
	return "text"
}

// setText parses s into dst, which is no list and no Secret. The error is a
// *valueError.
func setText(dst reflect.Value, s string) error {
	bad := &valueError{expected: expectedOf(dst.Type())}
	switch p := dst.Addr().Interface().(type) {
	case *string:
		if hasControl(s) {
			return &valueError{"a control byte in the text", "printable text on one line"}
		}
		*p = s
	case *bool:
		switch s {
		case "true", "True", "TRUE":
			*p = true
		case "false", "False", "FALSE":
			*p = false
		default:
			return bad
		}
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return bad
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(s)
		if err != nil {
			return bad
		}
		*p = d
	case *netip.Prefix:
		return setPrefix(p, s)
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(s))
	}
	return nil
}

// setPrefix reads a CIDR, or an address as the range of it alone. An IPv4 range
// in IPv6 form is refused: peers are compared unmapped, it would match nobody.
func setPrefix(dst *netip.Prefix, s string) error {
	bad := &valueError{expected: expectedOf(reflect.TypeFor[netip.Prefix]())}
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.Zone() != "" {
			return bad
		}
		ip = ip.Unmap()
		*dst = netip.PrefixFrom(ip, ip.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return bad
	case p != p.Masked():
		return &valueError{"bits are set beyond /" + strconv.Itoa(p.Bits()), p.Masked().String()}
	}
	*dst = p
	return nil
}

// textOf is the inverse of setText.
func textOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case bool:
		return strconv.FormatBool(x)
	case int:
		return strconv.Itoa(x)
	case Status:
		return string(x)
	case time.Duration:
		return humanDuration(x)
	case interface{ String() string }:
		return x.String()
	}
	return ""
}

// humanDuration is Duration.String without the zero parts at its end.
func humanDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
