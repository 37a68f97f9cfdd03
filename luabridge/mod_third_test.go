package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// results runs statements that print, and returns what they print.
func results(t testing.TB, body string, change ...func(*Options)) string {
	t.Helper()
	v := ask(t, strings.ReplaceAll(printed, "\n", " ")+body, query("alice"), change...)
	var lines []string
	for _, l := range v.Logs {
		lines = append(lines, l.Value)
	}
	return strings.Join(lines, "\n")
}

// Results of the third-party modules, as those of Nauthilus 1.12 give them.
func TestThirdParty(t *testing.T) {
	for _, test := range []struct{ module, call, want string }{
		{"json", `json.encode({})`, "[]"},
		{"json", `json.encode({a = {b = {1, "x", true}}})`, `{"a":{"b":[1,"x",true]}}`},
		{"json", `json.encode("a\"b\n")`, `"a\"b\n"`},
		{"json", `json.encode(1000000)`, "1000000"},
		{"json", `json.encode(0.5)`, "0.5"},
		{"json", `json.encode(nil)`, "null"},
		{"json", `json.encode({1, nil, 3})`, "nil\ta list has holes"},
		{"json", `json.encode({1, a = 2})`, "nil\ta table has both numbers and texts as keys"},
		{"json", `json.encode(print)`, "nil\ta function has no form in JSON"},
		{"json", `json.encode({[true] = 1})`, "nil\ta boolean as key has no form in JSON"},
		{"json", `json.encode(0/0)`, "nil\tNaN has no form in JSON"},
		{"json", `json.encode(nauthilus_backend_result.new())`, "nil\ta userdata has no form in JSON"},
		{"json", `#json.encode(request) > 500`, "true"},
		{"json", `json.decode("[1, 2, {\"a\": null}]")[2]`, "2"},
		{"json", `json.decode("\"x\"")`, "x"},
		{"json", `json.decode("null")`, "nil"},
		{"json", `json.decode("")`, "nil\tunexpected EOF"},
		{"json", `json.decode("{\"a\": 1")`, "nil\tunexpected EOF"},
		{"json", `json.decode("1 2")`, "nil\tsomething follows the value"},
		{"json", `select(2, json.decode(string.rep("[", 100) .. string.rep("]", 100)))`, "nested over 16 deep"},
		{"json", `select(2, json.decode(string.rep(" ", 1024 * 1024 + 1)))`, "a text of 1048577 bytes, at most 1048576"},

		{"time", `math.floor(time.unix()) == os.time()`, "true"},
		{"time", `time.unix_nano() / 1e9 - time.unix() < 1`, "true"},
		{"time", `time.format(86400, "2006-01-02T15:04:05Z07:00", "UTC")`, "1970-01-02T00:00:00Z"},
		{"time", `time.format(0.5, "05.000", "UTC")`, "00.500"},
		{"time", `time.format(0, "15:04", "No/Such")`, "nil\tunknown time zone"},
		{"time", `time.format(0/0, "15:04")`, "nil\tno such time or layout"},
		{"time", `time.parse("1970-01-02 01:00", "2006-01-02 15:04")`, "90000"},
		{"time", `time.parse("1970-01-01 01:00", "2006-01-02 15:04", "Europe/Vienna")`, "0"},
		{"time", `(time.parse("x", "2006"))`, "nil"},
		{"time", `time.sleep_ms`, "nil"},

		{"glua_crypto", `glua_crypto.md5("")`, "d41d8cd98f00b204e9800998ecf8427e"},
		{"glua_crypto", `#glua_crypto.sha256("x", true)`, "32"},
		{"glua_crypto", `glua_crypto.crc32("123456789")`, "cbf43926"},
		{"glua_crypto", `glua_crypto.hmac("md5", "what do ya want for nothing?", "Jefe")`, "750c783e6ab0b503eaa86e310a5db738"}, // RFC 2202
		{"glua_crypto", `(glua_crypto.hmac("crc32", "x", "y"))`, "nil"},
		{"glua_crypto", `glua_crypto.base64_decode("?")`, "nil\tnot in base64"},
		{"glua_crypto", `glua_crypto.encrypt("x", "rot13", "k", 0)`, "nil\tunsupported cipher \"rot13\"; expected aes-cbc, des-cbc or des-ecb"},
		{"glua_crypto", `glua_crypto.encrypt("x", "aes-cbc", "short", 0, "0123456789abcdef")`, "nil\tthe key has a length that the cipher does not take"},
		{"glua_crypto", `glua_crypto.encrypt("x", "aes-cbc", "0123456789abcdef", 0, "short")`, "nil\tan iv of 5 bytes; expected 16"},
		{"glua_crypto", `glua_crypto.decrypt(glua_crypto.encrypt("x", "des-ecb", "12345678", glua_crypto.RAW_DATA), "des-ecb", "12345678", glua_crypto.RAW_DATA)`, "x"},
		{"glua_crypto", `glua_crypto.decrypt("00", "aes-cbc", "0123456789abcdef", 0, "0123456789abcdef")`, "nil\t1 bytes are no multiple of 16"},
		{"glua_crypto", `(glua_crypto.decrypt(string.rep("00", 16), "aes-cbc", "0123456789abcdef", 0, "0123456789abcdef"))`, "nil"},

		{"strings", `#strings.split("a,b,,c", ",")`, "4"},
		{"strings", `#strings.split("äb")`, "2"},
		{"strings", `#strings.fields("  a  b ")`, "2"},
		{"strings", `strings.trim("xxaxx", "x")`, "a"},
		{"strings", `strings.trim_prefix("aab", "a")`, "ab"},
		{"strings", `strings.trim_suffix("abb", "b")`, "ab"},
		{"strings", `strings.has_prefix("ab", "b"), strings.has_suffix("ab", "b"), strings.contains("ab", "%a")`, "false\ttrue\tfalse"},

		{"base64", `base64.StdEncoding:encode_to_string("\255\254")`, "//4="},
		{"base64", `base64.RawURLEncoding:encode_to_string("\255\254")`, "__4"},
		{"base64", `base64.URLEncoding:decode_string("__4")`, "nil\tnot in base64"},
		{"base64", `#base64.RawStdEncoding:decode_string("//4")`, "2"},
	} {
		body := "local " + test.module + " = require(\"" + test.module + "\") print(" + test.call + ")"
		if got := results(t, body); got != test.want {
			t.Errorf("%s: got %q, want %q", test.call, got, test.want)
		}
	}
}

func TestThirdParty_Arguments(t *testing.T) {
	for call, want := range map[string]string{
		`require("json").decode(nil)`:                              "bad argument #1 to decode (string expected, got nil)",
		`require("strings").split(("a"):rep(70000), "a")`:          "split: over 65536 parts",
		`require("strings").trim("a", ("b"):rep(100))`:             "bad argument #2 to trim: 100 characters, at most 64",
		`require("base64").StdEncoding.encode_to_string("a", "b")`: "bad argument #1 to encode_to_string (base64_encoding expected, got string): \"a\"",
		`require("time").sleep(0/0)`:                               "bad argument #1 to sleep: NaN seconds",
		`require("glua_crypto").md5({})`:                           "bad argument #1 to md5 (string expected, got table)",
	} {
		if got := luaError(t, call); got != want {
			t.Errorf("%s: got %q, want %q", call, got, want)
		}
	}
}

// A script that sleeps longer than its request may take ends with it, and a dry
// run does not wait.
func TestSleep(t *testing.T) {
	d := newDirector(t, inFilter(`pcall(require("time").sleep, 30)`), func(o *Options) { o.Limits.Time = 50 * time.Millisecond })
	begin := time.Now()
	fault := askFault(t, d, query("alice"))
	if took := time.Since(begin); fault.Kind != proxy.PolicyTimeout || took > 5*time.Second {
		t.Errorf("%v after %s", fault, took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	d = newDirector(t, inFilter(`require("time").sleep(30)`), func(o *Options) { o.Limits.Time = time.Minute })
	if _, err := d.Direct(ctx, query("alice")); err == nil || errors.Is(err, proxy.ErrDenied) {
		t.Errorf("the client is gone: %v", err)
	}
	q := query("alice")
	q.DryRun = true
	direct(t, d, q)
}

// Texts that a policy decodes come from services and clients.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\u0000",null,true]}`, `[[[[]]]]`, `{"":{}}`, `"\ud800"`, `1e999`, `[1,]`} {
		f.Add(s)
	}
	d := newDirector(f, inFilter(`
		local json = require("json")
		local v, err = json.decode(request.client_id)
		if err == nil then
			local text, err = json.encode(v)
			assert(text or err)
			if text then
				local again = json.encode((json.decode(text)))
				assert(again == text, text)
			end
		end`))
	f.Fuzz(func(t *testing.T, text string) {
		q := query("alice")
		q.Request.ClientID = text
		if _, err := d.Direct(context.Background(), q); err != nil {
			var fault *proxy.PolicyFault
			if !errors.As(err, &fault) || fault.Kind != proxy.PolicyBudget {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	text := `{"users":[` + strings.TrimSuffix(strings.Repeat(`{"name":"alice","site":"north","port":143},`, 22), ",") + `]}`
	for name, body := range map[string]string{
		"decode": `require("json").decode(request.client_id)`,
		"both":   `local json = require("json") json.encode((json.decode(request.client_id)))`,
	} {
		b.Run("do="+name, func(b *testing.B) {
			q := query("alice")
			q.Request.ClientID = text
			benchmark(b, inFilter(body), q)
		})
	}
}
