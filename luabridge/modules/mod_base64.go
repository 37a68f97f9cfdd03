package modules

import (
	"encoding/base64"

	lua "github.com/yuin/gopher-lua"
)

const (
	encodingType  = "base64_encoding"
	base64Example = "local base64 = require(\"base64\")\n"
)

// base64Encodings are the constants of base64, each an object.
var base64Encodings = map[string]*base64.Encoding{
	"StdEncoding": base64.StdEncoding, "RawStdEncoding": base64.RawStdEncoding,
	"URLEncoding": base64.URLEncoding, "RawURLEncoding": base64.RawURLEncoding,
}

// base64Module is base64, as github.com/vadv/gopher-lua-libs has it.
var base64Module = Module{
	Name: "base64",
	Doc:  "Base64 (RFC 4648), by four encodings: with padding or without (`Raw…`), for texts or for URLs. The encoders and decoders of streams that gopher-lua-libs has are left out.",
	Types: []Type{{
		Name: encodingType, Doc: "One of `base64.StdEncoding`, `RawStdEncoding`, `URLEncoding`, `RawURLEncoding`.",
		Methods: []Func{
			{Name: "encode_to_string", Do: base64Encode,
				Sig: `(text: string) -> text: string`, Doc: "Writes a text in base64.",
				Example: base64Example + "print(base64.StdEncoding:encode_to_string(\"hello\")) --> aGVsbG8="},
			{Name: "decode_string", Do: base64Decode,
				Sig: `(text: string) -> text: string?, err: string?`, Doc: "Reads base64; nil and a text if it is none.",
				Example: base64Example + "print((base64.RawURLEncoding:decode_string(\"aGVsbG8\"))) --> hello"},
		},
	}},
	Fields: []Field{
		{"StdEncoding", encodingType, "With + and /, and padding."},
		{"RawStdEncoding", encodingType, "With + and /, without padding."},
		{"URLEncoding", encodingType, "With - and _, and padding."},
		{"RawURLEncoding", encodingType, "With - and _, without padding."},
	},
	Finish: func(L *lua.LState, t *lua.LTable) {
		for name, enc := range base64Encodings {
			t.RawSetString(name, newObject(L, encodingType, enc))
		}
	},
}

func encodingOf(L *lua.LState, method string) *base64.Encoding {
	ud, ok := L.Get(1).(*lua.LUserData)
	var enc *base64.Encoding
	if ok {
		enc, ok = ud.Value.(*base64.Encoding)
	}
	if !ok {
		argError(L, 1, method, encodingType)
	}
	return enc
}

func base64Encode(L *lua.LState) int {
	enc, text := encodingOf(L, "encode_to_string"), checkText(L, 2, "encode_to_string")
	take(L, len(text)/16, 2*len(text))
	L.Push(lua.LString(enc.EncodeToString([]byte(text))))
	return 1
}

func base64Decode(L *lua.LState) int {
	enc, text := encodingOf(L, "decode_string"), checkText(L, 2, "decode_string")
	take(L, len(text)/16, 2*len(text))
	out, err := enc.DecodeString(text)
	if err != nil {
		return failText(L, "not in base64")
	}
	L.Push(lua.LString(out))
	return 1
}
