package luabridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/passdb"
)

// nasty are arguments that nobody needs, as Lua; first those of which a function
// has no use at all. Each is made anew in its request.
var nasty = []string{
	`nil`, `""`, `"a"`, `"alice@example.org"`, `"a\0b"`, `"a\r\nb: c"`, `"\255\254"`, `"192.0.2.0/24"`, `"http://h/"`, `"default"`, `"%s%d%n"`,
	`("x"):rep(2^20)`, `("a\n"):rep(2^19)`, `("["):rep(2^16)`, `("- "):rep(2^15)`, `("(a*)*"):rep(100)`, `("%TAG !a! b\n"):rep(3000)`, `("\\pL"):rep(170)`, `("x"):rep(2^22)`,
	`0`, `-1`, `0/0`, `1/0`, `-1/0`, `2^53`, `1e308`, `0.5`, `true`, `false`,
	`{}`, `{1, 2, 3}`, `{"a", "b"}`, `{a = 1, b = {c = "d"}}`, `{[1e6] = 1}`, `(function() local t = {} t.t = t return t end)()`,
	`(function() local t = {} for i = 1, 200 do t = {t} end return t end)()`,
	`(function() local t = {} for i = 1, 20 do t = {t, t} end return t end)()`,
	`(function() local t = {} for i = 1, 20000 do t[i] = "x" .. i end return t end)()`,
	`(function() local t = {} for i = 1, 5000 do t["k" .. i] = i end return t end)()`,
	`(function() local t, s = {}, ("y"):rep(2^20) for i = 1, 4000 do t[i] = s end return t end)()`,
	`setmetatable({}, {__index = function() error("index") end, __len = function() return 1e9 end, __tostring = function() return {} end})`,
	`print`, `function(...) return ... end`, `function() error({}) end`, `function() while true do end end`, `function() coroutine.yield() end`,
	`coroutine.create(function() end)`, `coroutine.wrap(function(...) while true do coroutine.yield(...) end end)`,
	`request`, `module`, `string`, `_G`,
	`usher.servers()[1]`, `usher.servers()`, `nauthilus_backend_result.new()`, `usher.map("m")`, `require("regexp").compile("a+")`, `require("base64").StdEncoding`,
	`nauthilus_opentelemetry.tracer("x")`, `nauthilus_opentelemetry.tracer("x"):start_span("y")`, `nauthilus_redis.get_redis_connection("default")`, `nauthilus_prometheus.start_histogram_timer("h")`,
}

// A target is what is called: an expression, and whether it takes an object before
// its arguments.
type target struct{ name, text, sig string }

func targets() (list []target) {
	for _, m := range modules.All {
		for _, f := range m.Funcs {
			list = append(list, target{m.Name + "." + f.Name, fmt.Sprintf("require(%q)[%q]", m.Name, f.Name), f.Sig})
		}
		for _, t := range m.Types {
			for _, f := range t.Methods {
				list = append(list, target{t.Name + ":" + f.Name, fmt.Sprintf("methods[%q][%q]", t.Name, f.Name), f.Sig})
			}
		}
	}
	return list
}

const nastyHead = `
local methods = setmetatable({}, {__index = function(_, name)
	return ({
		nauthilus_backend_result = nauthilus_backend_result.new(), usher_map = usher.map("m"), regexp_ud = require("regexp").compile("a+"),
		base64_encoding = require("base64").StdEncoding, nauthilus_opentelemetry_tracer = nauthilus_opentelemetry.tracer("x"),
		nauthilus_opentelemetry_span = nauthilus_opentelemetry.tracer("x"):start_span("y"),
	})[name]
end})
`

// goWords are what no error that a script sees should have in it.
var goWords = regexp.MustCompile(`runtime error|goroutine|reflect|interface conversion|\.go:|0xc0|strconv|json:|panic|nil pointer|lua\.L|\*modules|unmarshal|invalid memory|valkey`)

// Every function of every module takes whatever a script gives it: no panic of
// Go's, no more time and memory than was paid for, and errors in Lua's own words.
func TestNastyArguments(t *testing.T) {
	rounds, full := 1+12/slowed, 0
	if s, err := strconv.Atoi(os.Getenv("USHER_NASTY")); err == nil {
		rounds, full = s, len(nasty) // each argument alone as well: minutes
	}
	mini, redis := withMini(t)

	maps := given(t, map[string]string{"m": "alice@example.org north\n192.0.2.0/24 net\n/a+b/ re\n"})
	var made strings.Builder
	made.WriteString("local nasty = {\n")
	for _, n := range nasty {
		fmt.Fprintf(&made, "function(request, module) return %s end,\n", n)
	}
	made.WriteString("}\nlocal calls = {\n")
	all := targets()
	for _, c := range all {
		fmt.Fprintf(&made, "function(methods) return %s end,\n", c.text)
	}
	made.WriteString("}\n")
	steps := 0
	d := newDirector(t, nastyHead+made.String()+`
	function nauthilus_call_filter(request)
		local numbers = {}
		for n in request.username:gmatch("%d+") do numbers[#numbers + 1] = tonumber(n) end
		local f = calls[numbers[1]](methods)
		if not f then error("no such function") end
		local args = {}
		for i = 2, #numbers do args[i - 1] = nasty[numbers[i]](request, usher) end
		local results = {pcall(f, unpack(args, 1, #numbers - 1))}
		for i = 1, math.min(#results, 4) do
			if type(results[i]) == "string" then nauthilus_builtin.custom_log_add(tostring(i), results[i]) end
		end
	end`, redis, maps, func(o *Options) {
		o.Deps.HTTP = refusing{}
		o.Deps.DNS = noDNS{}
		o.Deps.Prom = modules.NewPrometheus(prometheus.NewRegistry())
		o.Deps.Workers = passdb.NewWorkers()
		o.Limits.Time = 300 * time.Millisecond
		o.Observer = stepCount{&steps}
	})
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	view := backends(8)
	var before, after runtime.MemStats
	for i, c := range all {
		if matches(c.name) {
			continue
		}
		for round := range full + rounds {
			words := []string{strconv.Itoa(i + 1)}
			if round < full {
				words = append(words, strconv.Itoa(round+1), strconv.Itoa(1+random.IntN(len(nasty))))
			} else if round%3 == 0 {
				for range 1 + random.IntN(5) {
					words = append(words, strconv.Itoa(1+random.IntN(len(nasty))))
				}
			} else { // of the right types, so that more than the first argument is looked at
				for _, kind := range kindsOf(c.sig) {
					words = append(words, strconv.Itoa(1+fitting(random, kind)))
				}
			}
			if strings.HasPrefix(c.text, "methods") && round%8 != 0 {
				own := slices.IndexFunc(nasty, func(s string) bool { return s == objectOf[strings.Split(c.name, ":")[0]] })
				words = slices.Insert(words, 1, strconv.Itoa(own+1))
			}
			q := query(strings.Join(words, " "))
			q.View = view
			what := func() string {
				s := c.name + "("
				for _, w := range words[1:] {
					n, _ := strconv.Atoi(w)
					s += nasty[n-1] + ", "
				}
				return s + ")"
			}
			var v proxy.Verdict
			var err error
			var took, limit time.Duration
			for range 3 { // a busy machine is slow once, not each time
				steps = 0
				mini.FlushAll()
				q.Request.Notes = nil
				runtime.ReadMemStats(&before)
				began := time.Now()
				v, err = d.Direct(context.Background(), q)
				took = time.Since(began)
				runtime.ReadMemStats(&after)
				limit = slowed * (100*time.Millisecond + time.Duration(steps)*200*time.Nanosecond)
				if waits(c.name) {
					limit = 500 * time.Millisecond // the deadline is 300
				}
				if took <= limit {
					break
				}
			}
			if took > limit {
				t.Errorf("%s: took %v, of %d steps; error %v", what(), took, steps, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%s: allocated %d MiB", what(), used>>20)
			}
			text := fmt.Sprint(err)
			for _, l := range v.Logs {
				text += "\n" + l.Value
			}
			if w := goWords.FindString(text); w != "" {
				t.Errorf("%s: %q in\n%.500s", what(), w, text)
			}
			if strings.Contains(text, "no such function") {
				t.Fatalf("%s: %s", what(), text)
			}
		}
	}
}

var objectOf = map[string]string{
	"nauthilus_backend_result": `nauthilus_backend_result.new()`, "usher_map": `usher.map("m")`, "regexp_ud": `require("regexp").compile("a+")`,
	"base64_encoding": `require("base64").StdEncoding`, "nauthilus_opentelemetry_tracer": `nauthilus_opentelemetry.tracer("x")`,
	"nauthilus_opentelemetry_span": `nauthilus_opentelemetry.tracer("x"):start_span("y")`,
}

// waits: it is the function's work to take time.
func waits(name string) bool {
	return strings.HasSuffix(name, "sleep") || strings.HasSuffix(name, "wait_random")
}

// matches: the Redis in memory makes regular expressions of the patterns, however
// long, and those that are none end it.
func matches(name string) bool {
	return strings.HasSuffix(name, "_keys") || strings.HasSuffix(name, "_scan")
}

type stepCount struct{ steps *int }

func (s stepCount) PolicySteps(n int)        { *s.steps = n }
func (stepCount) PolicyFailing(string, bool) {}

type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("refused")
}

// kindsOf are the types of a function's parameters, as far as it goes.
func kindsOf(sig string) (kinds []string) {
	sig, _, _ = strings.Cut(strings.TrimPrefix(sig, "("), ") ->")
	depth, from := 0, 0
	for i, r := range sig + "," {
		switch {
		case strings.ContainsRune("{<(", r):
			depth++
		case strings.ContainsRune("}>)", r):
			depth--
		case r == ',' && depth <= 0:
			_, kind, _ := strings.Cut(sig[from:i], ":")
			kinds, from = append(kinds, strings.TrimSpace(kind)), i+1
		}
	}
	return kinds
}

// fitting is an argument of about that type.
func fitting(random *rand.Rand, kind string) int {
	fits := func(arg string) bool {
		isTable := strings.HasPrefix(arg, "{") || strings.HasPrefix(arg, "(function() local t") || arg == "request" || arg == "_G" || arg == "usher.servers()"
		isText := strings.HasPrefix(arg, `"`) || strings.HasPrefix(arg, `("`)
		switch {
		case strings.HasPrefix(kind, "fun"):
			return strings.HasPrefix(arg, "function") || arg == "print"
		case strings.HasPrefix(kind, "{"), strings.HasPrefix(kind, "table"), strings.HasSuffix(kind, "[]"), strings.HasPrefix(kind, "nauthilus_logging"):
			return isTable
		case strings.HasPrefix(kind, "string"), strings.HasPrefix(kind, `"`):
			return isText
		case strings.HasPrefix(kind, "integer"), strings.HasPrefix(kind, "number"):
			return arg != "" && strings.ContainsRune("-0123456789", rune(arg[0]))
		}
		return isText || isTable
	}
	for {
		if i := random.IntN(len(nasty)); fits(nasty[i]) {
			return i
		}
	}
}
