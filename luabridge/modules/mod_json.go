package modules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// jsonModule is json, as github.com/vadv/gopher-lua-libs has it.
var jsonModule = Module{
	Name: "json",
	Doc:  "JSON (RFC 8259). Values are nested 16 deep at most, texts are 1 MiB at most, and a table has 4096 values at most when it is encoded.",
	Funcs: []Func{
		{Name: "decode", Do: jsonDecode,
			Sig:     `(text: string) -> value: any, err: string?`,
			Doc:     "Makes tables of objects and arrays; null is nil. nil and a text if it is no JSON.",
			Example: "local json = require(\"json\")\nlocal value, err = json.decode('{\"site\": \"north\", \"ports\": [143, 993]}')\nprint(value.site, value.ports[2]) --> north\t993\nprint((json.decode(\"{\"))) --> nil"},
		{Name: "encode", Do: jsonEncode,
			Sig:     `(value: any) -> text: string?, err: string?`,
			Doc:     "A table with the keys 1 to n is an array, and so is an empty one; one with texts as keys an object, its keys sorted. nil and a text for a table that is both or has holes, and for functions and userdata.",
			Example: "local json = require(\"json\")\nprint(json.encode({1, 2})) --> [1,2]\nprint(json.encode({site = \"north\"})) --> {\"site\":\"north\"}"},
	},
}

const maxJSON = 1 << 20 // bytes

func jsonDecode(L *lua.LState) int {
	text := checkText(L, 1, "decode")
	if len(text) > maxJSON {
		return failText(L, fmt.Sprintf("a text of %d bytes, at most %d", len(text), maxJSON))
	}
	take(L, len(text)/4, 2*len(text))
	d := &jsonDecoder{L: L, tokens: json.NewDecoder(strings.NewReader(text))}
	v, err := d.value(0)
	if err == nil {
		if _, more := d.tokens.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the value")
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	L.Push(v)
	return 1
}

// failText pushes nil and a text.
func failText(L *lua.LState, text string) int {
	L.Push(lua.LNil)
	L.Push(lua.LString(text))
	return 2
}

// A jsonDecoder reads one value, token by token, so that depth and size are known
// before they are used.
type jsonDecoder struct {
	L      *lua.LState
	tokens *json.Decoder
}

func (d *jsonDecoder) value(depth int) (lua.LValue, error) {
	token, err := d.tokens.Token()
	if err != nil {
		return nil, err
	}
	take(d.L, 4, 64)
	switch t := token.(type) {
	case bool:
		return lua.LBool(t), nil
	case float64:
		return lua.LNumber(t), nil
	case string:
		take(d.L, len(t)/64, len(t))
		return lua.LString(t), nil
	case json.Delim:
		switch {
		case depth == maxDepth:
			return nil, fmt.Errorf("nested over %d deep", maxDepth)
		case t == '[':
			return d.array(depth)
		case t == '{':
			return d.object(depth)
		}
		return nil, fmt.Errorf("unexpected %s", t)
	}
	return lua.LNil, nil
}

func (d *jsonDecoder) array(depth int) (lua.LValue, error) {
	t := d.L.CreateTable(0, 0)
	take(d.L, 1, 96)
	for d.tokens.More() {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		take(d.L, 1, 32)
		t.Append(v)
	}
	_, err := d.tokens.Token()
	return t, err
}

func (d *jsonDecoder) object(depth int) (lua.LValue, error) {
	t := d.L.CreateTable(0, 1)
	take(d.L, 1, 416)
	for d.tokens.More() {
		key, err := d.tokens.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		take(d.L, 2+len(name)/64, 220+len(name))
		t.RawSetString(name, v)
	}
	_, err := d.tokens.Token()
	return t, err
}

func jsonEncode(L *lua.LState) int {
	e := &jsonEncoder{L: L}
	if err := e.value(L.CheckAny(1), 0); err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	L.Push(lua.LString(e.out.String()))
	return 1
}

type jsonEncoder struct {
	L      *lua.LState
	out    bytes.Buffer
	values int
	shown  func(string) string // if set, what stands for a text
}

func (e *jsonEncoder) value(v lua.LValue, depth int) error {
	if e.values++; e.values > maxValues {
		return fmt.Errorf("over %d values", maxValues)
	}
	take(e.L, 4, 32)
	switch v := v.(type) {
	case *lua.LNilType:
		e.out.WriteString("null")
	case lua.LBool:
		e.out.WriteString(v.String())
	case lua.LNumber:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s has no form in JSON", v)
		}
		if s := v.String(); e.shown != nil && e.shown(s) != s { // a password of digits
			return e.plain(e.shown(s))
		}
		return e.plain(float64(v))
	case lua.LString:
		if len(v) > maxJSON {
			return fmt.Errorf("a text of %d bytes, at most %d", len(v), maxJSON)
		}
		return e.text(string(v))
	case *lua.LTable:
		if depth == maxDepth {
			return fmt.Errorf("nested over %d deep", maxDepth)
		}
		return e.table(v, depth)
	default:
		return fmt.Errorf("a %s has no form in JSON", v.Type())
	}
	return nil
}

func (e *jsonEncoder) text(s string) error {
	take(e.L, len(s)/8, 2*len(s))
	if e.shown != nil {
		s = e.shown(s)
	}
	return e.plain(s)
}

func (e *jsonEncoder) plain(v any) error {
	text, err := json.Marshal(v)
	e.out.Write(text)
	return err
}

func (e *jsonEncoder) table(t *lua.LTable, depth int) error {
	CallOf(e.L).Fill(e.L, t)
	var keys []string
	numbers := 0
	var fault error
	each(e.L, t, func(k, _ lua.LValue) {
		switch k := k.(type) {
		case lua.LString:
			take(e.L, 2, 16)
			keys = append(keys, string(k))
		case lua.LNumber:
			numbers++
		default:
			fault = fmt.Errorf("a %s as key has no form in JSON", k.Type())
		}
	})
	switch {
	case fault != nil:
		return fault
	case len(keys) > 0 && numbers > 0:
		return errors.New("a table has both numbers and texts as keys")
	case len(keys) == 0:
		if numbers != t.Len() {
			return errors.New("a list has holes")
		}
		e.out.WriteByte('[')
		for i := 1; i <= numbers; i++ {
			if i > 1 {
				e.out.WriteByte(',')
			}
			if err := e.value(t.RawGetInt(i), depth+1); err != nil {
				return err
			}
		}
		e.out.WriteByte(']')
		return nil
	}
	slices.Sort(keys)
	take(e.L, 4*len(keys), 0)
	e.out.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			e.out.WriteByte(',')
		}
		if err := e.text(k); err != nil {
			return err
		}
		e.out.WriteByte(':')
		if err := e.value(t.RawGetString(k), depth+1); err != nil {
			return err
		}
	}
	e.out.WriteByte('}')
	return nil
}
