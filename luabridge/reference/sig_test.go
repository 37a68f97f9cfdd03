package reference

import (
	"strings"
	"testing"
)

func isServer(name string) bool { return name == "server" || name == "http.response" }

func TestParseSig(t *testing.T) {
	for text, want := range map[string]string{
		"()":            "",
		"(x: string)":   "",
		"(x:string)":    "(x: string)",
		"(...: string)": "",
		"(key: string, value: any, ttl?: integer) -> ok: \"OK\"?, err: string?":       "",
		"(t: string[]|table<string,string>|nil)":                                      "(t: string[]|table<string, string>|nil)",
		"(list: {host: string, pref?: number}[]) -> server: server?":                  "",
		"(f: fun(old: any): any, more?: boolean)":                                     "",
		"(f: fun(): (string|number)[], n: 1|2)":                                       "",
		"(url: string) -> answer: http.response?, err: string?":                       "",
		"() -> n: integer, ...: string":                                               "",
		"  (  a : \"a b\"|\"c\" , b? : nil )  ->  c : number ":                        "(a: \"a b\"|\"c\", b?: nil) -> c: number",
		"(a?: string, ...: any)":                                                      "",
		"(o: {headers?: table<string, string>, auth?: {user: string, pass: string}})": "",
	} {
		sig, err := ParseSig(text, isServer)
		if want == "" {
			want = text
		}
		if err != nil || sig.String() != want {
			t.Errorf("%s\n got %s, %v\nwant %s", text, sig, err, want)
		}
	}
}

func TestParseSig_Faults(t *testing.T) {
	for text, want := range map[string]string{
		"":                               `found the end, expected "("`,
		"(":                              `found the end, expected a name`,
		"(x)":                            `found ")", expected ":"`,
		"(x: )":                          `found ")", expected a type`,
		"(x: sting)":                     `found "sting", expected a type that there is`,
		"(x: string":                     `found the end, expected ","`,
		"(x: string,)":                   `found ")", expected a name`,
		"(x: string) ->":                 `found the end, expected a name`,
		"(x: string) -> string":          `found the end, expected ":"`,
		"(x: string) : string":           `found ":", expected the end`,
		"(x: string, x: number)":         `two are named x`,
		"(x?: string, y: number)":        `y must be given, though it stands behind x, which need not`,
		"(...: any, y: number)":          `y stands behind ...`,
		"(end: number)":                  `found "end", expected a name`,
		"(1: number)":                    `found "1", expected a name`,
		"(a.b: number)":                  `found "a.b", expected a name`,
		"(x: \"a)":                       `a text has no end: "a)`,
		"(x: string[)":                   `found '[', which is no part of a signature`,
		"(x: table<string)":              `found ")", expected ">"`,
		"(x: {a string})":                `found "string", expected ":"`,
		"(x: string) -> a: \x00":         `found '\x00', which is no part of a signature`,
		"(x: " + strings.Repeat("(", 30): `types are nested too deep`,
	} {
		if sig, err := ParseSig(text, isServer); err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s\n got %s, %v\nwant %s", text, sig, err, want)
		}
	}
}

// Whatever stands in a table, reading it ends, and what was read can be read
// again.
func FuzzParseSig(f *testing.F) {
	for _, text := range []string{"()", "(a: string, b?: {c: number}) -> d: fun(x: any): any, ...: string[]", `(x: "a"|1)`, "(x: table<string, (a|b)?>"} {
		f.Add(text)
	}
	any := func(string) bool { return true }
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := ParseSig(text, any)
		if err != nil {
			return
		}
		again, err := ParseSig(sig.String(), any)
		if err != nil || again.String() != sig.String() {
			t.Errorf("%q: %s, then %s, %v", text, sig, again, err)
		}
	})
}
