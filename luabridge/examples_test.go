package luabridge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"usher/luabridge/maps"
	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/passdb"
	"usher/test/servers"
)

// exampleFakes are the services that examples reach. Each example has its own.
var exampleFakes = []func(*testing.T, *modules.Deps){
	func(_ *testing.T, d *modules.Deps) { d.HTTP = exampleDirectory{} },
	func(_ *testing.T, d *modules.Deps) { d.Workers, d.Nonce = passdb.NewWorkers(), []byte("nonce") },
	func(_ *testing.T, d *modules.Deps) { d.Prom = modules.NewPrometheus(prometheus.NewRegistry()) },
	func(t *testing.T, d *modules.Deps) {
		r, err := modules.NewRedis(modules.RedisOptions{Addresses: []string{miniredis.RunT(t).Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		d.Redis = r
	},
	func(t *testing.T, d *modules.Deps) {
		var err error
		if d.Maps, err = maps.Given(map[string]string{"moved.map": "alice@example.org 192.0.2.12\n"}); err != nil {
			t.Fatal(err)
		}
	},
	func(t *testing.T, d *modules.Deps) { d.DNS = servers.StartDNS(t, exampleRecords...).Resolver() },
}

// An exampleDirectory knows the user alice.
type exampleDirectory struct{}

func (exampleDirectory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &http.Response{
		StatusCode: http.StatusNotFound, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: r,
	}
	if r.URL.String() == "http://directory.example.org/users/alice" {
		w.StatusCode = http.StatusOK
		w.Header.Set("X-Source", "ldap")
		w.Body = io.NopCloser(strings.NewReader(`{"site":"north"}`))
	}
	return w, nil
}

var exampleRecords = []string{
	"example.org. A 192.0.2.80", "example.org. AAAA 2001:db8::80", "example.org. MX 10 mail.example.org.",
	"example.org. TXT v=spf1 -all", "example.org. NS ns.example.org.", "www.example.org. CNAME example.org.",
	"80.2.0.192.in-addr.arpa. PTR host80.example.org.",
}

// exampleQuery is the request that examples are about.
func exampleQuery() *proxy.Query {
	var es []proxy.Entry
	for _, host := range []string{"192.0.2.11", "192.0.2.12"} {
		for _, s := range []*proxy.Server{
			{Protocol: "imap", Host: host, Port: 143, Weight: 100},
			{Protocol: "pop3", Host: host, Port: 110, Weight: 100},
		} {
			es = append(es, proxy.Entry{Server: s, Health: proxy.Up, Addr: netip.MustParseAddr(host)})
		}
	}
	q := query("alice@example.org")
	q.View = proxy.NewView(es)
	return q
}

// printed notes what an example prints, as print itself would have it.
const printed = `local function print(...)
	local line = {}
	for i = 1, select("#", ...) do line[i] = tostring((select(i, ...))) end
	nauthilus_builtin.custom_log_add("printed", table.concat(line, "\t"))
end `

var expected = regexp.MustCompile(`(?m)--> ?(.*)$`)

func exampleOptions(t *testing.T) func(*Options) {
	return func(o *Options) {
		o.Deps.Network = true
		for _, fake := range exampleFakes {
			fake(t, o.Deps)
		}
	}
}

// runExample runs an example as a filter's body: it must print what it says, or
// decide something.
func runExample(t *testing.T, example string) {
	d := newDirector(t, inFilter(strings.ReplaceAll(printed, "\n", " ")+example), exampleOptions(t))
	v, err := d.Direct(context.Background(), exampleQuery())
	if err != nil {
		t.Fatal(err)
	}
	// Tabs and line ends are spaces: what is expected stands on one line.
	one := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	var want, got []string
	for _, m := range expected.FindAllStringSubmatch(example, -1) {
		want = append(want, one(m[1]))
	}
	did := v.Selected || v.Refused || v.TempFail || v.Hold > 0 || len(v.Changes) > 0
	for _, field := range v.Logs {
		if field.Name == "printed" {
			got = append(got, one(field.Value))
		} else {
			did = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it does not print what stands behind -->\n%s", diff)
	}
	if len(got) == 0 && !did {
		t.Error("it prints nothing and decides nothing")
	}
}

// The examples of docs/lua-api.md do what they say.
func TestExamples(t *testing.T) {
	run := func(name string, funcs []modules.Func) {
		for _, f := range funcs {
			if f.Example != "" {
				t.Run(name+f.Name, func(t *testing.T) { runExample(t, f.Example) })
			}
		}
	}
	run("", modules.Globals)
	for _, m := range modules.All {
		run(m.Name+".", m.Funcs)
		for _, typ := range m.Types {
			run(typ.Name+":", typ.Methods)
		}
	}
}

// The examples of the functions that scripts define are whole scripts.
func TestExamples_Entries(t *testing.T) {
	for _, f := range modules.Entries {
		t.Run(f.Name, func(t *testing.T) {
			switch f.Name {
			case entryFilter:
				if v := direct(t, newDirector(t, f.Example, exampleOptions(t)), exampleQuery()); !v.Selected {
					t.Errorf("%+v", v)
				}
			case entryFeature:
				d := newDirector(t, inFilter(""), exampleOptions(t), func(o *Options) {
					o.Features = []Script{{Name: "feature", Path: "feature.lua", Text: f.Example}}
				})
				for user, refused := range map[string]bool{"alice@example.org": false, "alice smith": true} {
					if v, err := d.Before(context.Background(), query(user)); err != nil || v.Refused != refused {
						t.Errorf("%s: %+v, %v", user, v, err)
					}
				}
			case entryPassword:
				id, err := newPassdb(t, f.Example).Lookup(context.Background(), login("alice@example.org", "secret"))
				if err != nil || id.User != "alice@example.org" || !id.Verified {
					t.Errorf("%+v, %v", id, err)
				}
			case entryAccounts:
				var users []string
				err := newPassdb(t, f.Example).List(context.Background(), "", func(user string) bool {
					users = append(users, user)
					return true
				})
				if err != nil || fmt.Sprint(users) != "[alice@example.org bob@example.org]" {
					t.Errorf("%s, %v", users, err)
				}
			case entryInit:
				store := modules.NewStore()
				d := newDirector(t, inFilter(""), exampleOptions(t), func(o *Options) {
					o.Deps.Cache = store
					o.Init = []Script{{Name: "init", Path: "init.lua", Text: f.Example}}
				})
				if err := d.RunInit(context.Background()); err != nil || store.Len() != 1 {
					t.Errorf("%d entries in the cache, %v", store.Len(), err)
				}
			default:
				t.Error("nothing runs it")
			}
		})
	}
}

// print itself, which the other examples have another of, logs.
func TestExamples_Print(t *testing.T) {
	logs, to := logTo(zap.InfoLevel)
	for _, f := range modules.Globals {
		if f.Name != "print" {
			continue
		}
		direct(t, newDirector(t, inFilter(f.Example), to), exampleQuery())
		want := strings.TrimSpace(expected.FindStringSubmatch(f.Example)[1])
		if got := logs.All(); len(got) != 1 || got[0].ContextMap()["text"] != strings.Replace(want, " ", "\t", 1) {
			t.Errorf("%s: logged %v", f.Example, got)
		}
	}
}

// The table of a type says all fields that there are, and their types.
func TestExamples_Fields(t *testing.T) {
	check := func(object string, fields []modules.Field) {
		var body strings.Builder
		body.WriteString("local object = " + object + " ")
		for _, f := range fields {
			fmt.Fprintf(&body, "nauthilus_builtin.custom_log_add(%q, type(object[%q])) ", f.Name, f.Name)
		}
		v := ask(t, body.String(), exampleQuery())
		for i, f := range fields {
			want := f.Type
			switch {
			case want == "integer":
				want = "number"
			case strings.HasSuffix(want, "[]"), strings.HasPrefix(want, "table"), want == "nauthilus_logging":
				want = "table"
			}
			if got := v.Logs[i].Value; got != want && (got != "nil" || !strings.HasSuffix(want, "?")) {
				t.Errorf("%s.%s is a %s; documented as %s", object, f.Name, got, f.Type)
			}
		}
	}
	types := modules.RequestTypes()
	check("request", types[0].Fields)
	check("request.logging", types[1].Fields)
	check("nauthilus_backend.get_backend_servers()[1]", modules.Named("nauthilus_backend").Types[0].Fields)
}
