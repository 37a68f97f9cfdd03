package modules

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // scripts ask for it by name
	"crypto/hmac"
	"crypto/md5"  //nolint:gosec // likewise
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	lua "github.com/yuin/gopher-lua"
)

const cryptoExample = "local crypto = require(\"glua_crypto\")\n"

// cryptoModule is glua_crypto, as github.com/tengattack/gluacrypto has it.
var cryptoModule = Module{
	Name: "glua_crypto",
	Doc:  "Digests and ciphers. Results are hex digits; with `raw`, or the option RAW_DATA, the bytes themselves. Not for storing passwords: see `nauthilus_password`.",
	Funcs: []Func{
		digest("md5", "5d41402abc4b2a76b9719d911017c592"), digest("sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"),
		digest("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
		digest("sha512", "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043"),
		digest("crc32", "3610a686"),
		{Name: "hmac", Do: cryptoHMAC,
			Sig: `(algorithm: "md5"|"sha1"|"sha256"|"sha512", text: string, key: string, raw?: boolean) -> mac: string?, err: string?`, Doc: "A keyed digest (RFC 2104).",
			Example: cryptoExample + "print((crypto.hmac(\"sha256\", \"hello\", \"key\"))) --> 9307b3b915efb5171ff14d8cb55fbcc798c6c0ef1456d66ded1a6aa723a58b7b"},
		base64Func("base64_encode", base64.StdEncoding, true, `"hello"`, "aGVsbG8="), base64Func("base64_decode", base64.StdEncoding, false, `"aGVsbG8="`, "hello"),
		base64Func("base64_url_encode", base64.URLEncoding, true, `"hello"`, "aGVsbG8="), base64Func("base64_url_decode", base64.URLEncoding, false, `"aGVsbG8="`, "hello"),
		{Name: "encrypt", Do: cryptoCipher(true),
			Sig: `(text: string, cipher: "aes-cbc"|"des-cbc"|"des-ecb", key: string, options: integer, iv?: string) -> secret: string?, err: string?`, Doc: "Encrypts, with PKCS #7 padding.",
			Example: cryptoExample + "print((crypto.encrypt(\"hello\", \"aes-cbc\", \"0123456789abcdef\", 0, \"0123456789abcdef\"))) --> 30e7cbb71cd9d18812e3ee5c3f294563"},
		{Name: "decrypt", Do: cryptoCipher(false),
			Sig: `(secret: string, cipher: "aes-cbc"|"des-cbc"|"des-ecb", key: string, options: integer, iv?: string) -> text: string?, err: string?`, Doc: "Decrypts what encrypt made.",
			Example: cryptoExample + "local secret = crypto.encrypt(\"hello\", \"aes-cbc\", \"0123456789abcdef\", 0, \"0123456789abcdef\")\nprint((crypto.decrypt(secret, \"aes-cbc\", \"0123456789abcdef\", 0, \"0123456789abcdef\"))) --> hello"},
	},
	Values: []Value{{Name: "RAW_DATA", Value: lua.LNumber(rawData), Doc: "As options: bytes, not hex digits."}},
}

const rawData = 1

var digests = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New,
	"crc32": func() hash.Hash { return crc32.NewIEEE() },
}

// pushSum pushes bytes, as hex digits unless raw.
func pushSum(L *lua.LState, sum []byte, raw bool) int {
	take(L, 2+len(sum)/16, 32+2*len(sum))
	if raw {
		L.Push(lua.LString(sum))
	} else {
		L.Push(lua.LString(hex.EncodeToString(sum)))
	}
	return 1
}

func digest(name, hello string) Func {
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			text := checkText(L, 1, name)
			take(L, 20+len(text)/4, 256)
			h := digests[name]()
			h.Write([]byte(text))
			return pushSum(L, h.Sum(nil), L.OptBool(2, false))
		},
		Sig: `(text: string, raw?: boolean) -> digest: string`, Doc: "The digest of a text.",
		Example: cryptoExample + "print(crypto." + name + "(\"hello\")) --> " + hello,
	}
}

func cryptoHMAC(L *lua.LState) int {
	name, text, key := checkText(L, 1, "hmac"), checkText(L, 2, "hmac"), checkText(L, 3, "hmac")
	make := digests[name]
	if make == nil || name == "crc32" {
		return failText(L, fmt.Sprintf("unsupported digest %.20q; expected md5, sha1, sha256 or sha512", name))
	}
	take(L, 50+len(text)/4, 512)
	h := hmac.New(make, []byte(key))
	h.Write([]byte(text))
	return pushSum(L, h.Sum(nil), L.OptBool(4, false))
}

func base64Func(name string, enc *base64.Encoding, encode bool, arg, result string) Func {
	doc := "Writes a text in base64 (RFC 4648)."
	if !encode {
		doc = "Reads base64 (RFC 4648); nil and a text if it is none."
	}
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			text := checkText(L, 1, name)
			take(L, len(text)/16, 2*len(text))
			if encode {
				L.Push(lua.LString(enc.EncodeToString([]byte(text))))
				return 1
			}
			out, err := enc.DecodeString(text)
			if err != nil {
				return failText(L, "not in base64")
			}
			L.Push(lua.LString(out))
			return 1
		},
		Sig: `(text: string) -> text: string?, err: string?`, Doc: doc,
		Example: cryptoExample + "print((crypto." + name + "(" + arg + "))) --> " + result,
	}
}

func cryptoCipher(encrypt bool) lua.LGFunction {
	name := "decrypt"
	if encrypt {
		name = "encrypt"
	}
	return func(L *lua.LState) int {
		in, kind, key := []byte(checkText(L, 1, name)), checkText(L, 2, name), []byte(checkText(L, 3, name))
		raw := L.OptInt(4, 0) == rawData
		iv := []byte(L.OptString(5, ""))
		take(L, 500+len(in), 4096+4*len(in))
		if !encrypt && !raw {
			n, err := hex.Decode(in, in)
			if err != nil {
				return failText(L, "not in hex digits")
			}
			in = in[:n]
		}
		out, err := crypt(in, kind, key, iv, encrypt)
		if err != nil {
			return failText(L, err.Error())
		}
		return pushSum(L, out, raw || !encrypt)
	}
}

func crypt(in []byte, kind string, key, iv []byte, encrypt bool) ([]byte, error) {
	var block cipher.Block
	var err error
	switch kind {
	case "aes-cbc":
		block, err = aes.NewCipher(key)
	case "des-cbc", "des-ecb":
		block, err = des.NewCipher(key) //nolint:gosec // scripts ask for it by name
	default:
		return nil, fmt.Errorf("unsupported cipher %.20q; expected aes-cbc, des-cbc or des-ecb", kind)
	}
	if err != nil {
		return nil, errors.New("the key has a length that the cipher does not take") // err would show it
	}
	size := block.BlockSize()
	if kind != "des-ecb" && len(iv) != size {
		return nil, fmt.Errorf("an iv of %d bytes; expected %d", len(iv), size)
	}
	if encrypt {
		pad := size - len(in)%size
		for range pad {
			in = append(in, byte(pad))
		}
	} else if len(in) == 0 || len(in)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no multiple of %d", len(in), size)
	}
	out := make([]byte, len(in))
	switch {
	case kind == "des-ecb":
		for i := 0; i < len(in); i += size {
			if encrypt {
				block.Encrypt(out[i:], in[i:])
			} else {
				block.Decrypt(out[i:], in[i:])
			}
		}
	case encrypt:
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, in)
	default:
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, in)
	}
	if encrypt {
		return out, nil
	}
	pad := int(out[len(out)-1])
	if pad == 0 || pad > size || pad > len(out) {
		return nil, errors.New("bad padding: another key, or not what encrypt made")
	}
	for _, b := range out[len(out)-pad:] {
		if int(b) != pad {
			return nil, errors.New("bad padding: another key, or not what encrypt made")
		}
	}
	return out[:len(out)-pad], nil
}
