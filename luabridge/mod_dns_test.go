package luabridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/luabridge/modules"
	"usher/test/servers"
)

func withDNS(r modules.Resolver) func(*Options) {
	return func(o *Options) { o.Deps.Network, o.Deps.DNS = true, r }
}

var dnsRecords = []string{
	"example.org. A 192.0.2.80", "example.org. A 192.0.2.81", "example.org. AAAA 2001:db8::80",
	"example.org. MX 20 b.example.org.", "example.org. MX 10 z.example.org.", "example.org. MX 10 a.example.org.",
	"example.org. TXT v=spf1 -all", "example.org. NS ns.example.org.",
	"www.example.org. CNAME example.org.", "host80.example.org. A 192.0.2.80", "six.example.org. AAAA 2001:db8::6",
	"80.2.0.192.in-addr.arpa. PTR host80.example.org.", "null.example.org. MX 0 .",
	"6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.org.",
}

// Each type returns what Nauthilus does.
func TestDNS(t *testing.T) {
	ask(t, `
		local dns = require("nauthilus_dns")
		assert(dns == nauthilus_dns)
		local function list(...) local t, err = dns.resolve(...) assert(err == nil, err) return table.concat(t, " ") end
		local function fails(want, ...) local v, err = dns.resolve(...) assert(v == nil and err == want, tostring(v) .. " " .. tostring(err)) end
		local a = list("example.org.")
		assert(a == "192.0.2.80 192.0.2.81" or a == "192.0.2.81 192.0.2.80", a)
		assert(list("host80.example.org.", "a") == "192.0.2.80" and list("www.example.org.", nil) == a)
		assert(list("example.org.", "AAAA") == "2001:db8::80")
		assert(list("six.example.org.", "A") == "" and list("host80.example.org.", "AAAA") == "")
		assert(list("192.0.2.1") == "192.0.2.1" and list("192.0.2.1", "AAAA") == "" and list("2001:db8::1", "AAAA") == "2001:db8::1")
		assert(list("example.org.", "TXT") == "v=spf1 -all" and list("example.org.", "NS") == "ns.example.org.")
		local mx = dns.resolve("example.org.", "MX")
		assert(#mx == 3 and mx[1].host == "a.example.org." and mx[1].pref == 10 and mx[2].host == "z.example.org." and mx[3].pref == 20)
		local null = dns.resolve("null.example.org.", "MX")
		assert(#null == 1 and null[1].host == "." and null[1].pref == 0)
		assert(dns.resolve("www.example.org.", "CNAME") == "example.org." and dns.resolve("host80.example.org.", "CNAME") == "host80.example.org.")
		for _, name in ipairs({"192.0.2.80", "80.2.0.192.in-addr.arpa", "80.2.0.192.IN-ADDR.ARPA."}) do assert(list(name, "PTR") == "host80.example.org.", name) end
		for _, name in ipairs({"2001:db8::6", "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"}) do assert(list(name, "PTR") == "six.example.org.", name) end
		fails("nauthilus_dns: A nobody.example.org.: no such host", "nobody.example.org.")
		fails("nauthilus_dns: TXT host80.example.org.: no such host", "host80.example.org.", "TXT")
		fails("nauthilus_dns: PTR 192.0.2.99: no such host", "192.0.2.99", "PTR")
		fails("nauthilus_dns: unsupported record type: SRV", "example.org", "SRV")
		fails("nauthilus_dns: PTR example.org: a PTR look-up takes an address", "example.org", "PTR")
		fails("nauthilus_dns: PTR 1.2.3.in-addr.arpa: a PTR look-up takes an address", "1.2.3.in-addr.arpa", "PTR")
		for _, name in ipairs({"", "a b", "a\0b", "a\r\nb", "\255", ("x"):rep(255), ("x"):rep(100000)}) do fails("nauthilus_dns: no valid name", name) end
		fails("nauthilus_dns: A a..b: no such host", "a..b")
		fails("nauthilus_dns: A " .. ("x"):rep(64) .. ".: no such host", ("x"):rep(64) .. ".")`,
		query("alice"), withDNS(servers.StartDNS(t, dnsRecords...).Resolver()))
}

func TestDNS_WrongArguments(t *testing.T) {
	for statement, want := range map[string]string{
		`nauthilus_dns.resolve()`:         "bad argument #1 to resolve (name (string) expected, got no value)",
		`nauthilus_dns.resolve({})`:       "bad argument #1 to resolve (name (string) expected, got table)",
		`nauthilus_dns.resolve("x.", {})`: "bad argument #2 to resolve (record type (string) expected, got table)",
	} {
		if got := luaError(t, statement, withDNS(nil)); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	const want = "nauthilus_dns: director.network is false, so that policies reach no network"
	if got := luaError(t, `nauthilus_dns.resolve("example.org.")`); got != want {
		t.Errorf("without director.network\n got %s\nwant %s", got, want)
	}
}

// Whatever DNS does, the script gets nil and a text, in time to decide without.
func TestDNS_Failures(t *testing.T) {
	dns := servers.StartDNS(t, dnsRecords...)
	d := newDirector(t, inFilter(`
		local kind, name = request.username:match("^(%w+) (.*)$")
		local v, err = nauthilus_dns.resolve(name, kind)
		assert(v == nil, "an answer")
		nauthilus_builtin.custom_log_add("err", err)
		nauthilus_backend.select_backend_server("127.0.0.3", 143)`), withDNS(dns.Resolver()), func(o *Options) { o.Limits.Time = 800 * time.Millisecond })
	for _, c := range []struct {
		name string
		mode servers.DNSMode
		want string
	}{
		{"silent", servers.DNSSilent, "no answer in time"},
		{"servfail", servers.DNSServfail, "server misbehaving"},
		{"nxdomain", servers.DNSNXDomain, "no such host"},
		{"empty", servers.DNSEmpty, "no such host"},
		{"truncated, and TCP hangs up", servers.DNSHangsUp, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dns.Mode(c.mode)
			for _, what := range []string{"A example.org.", "MX example.org.", "TXT example.org.", "PTR 192.0.2.80", "CNAME example.org."} {
				v := direct(t, d, query(what))
				if got := v.Logs[0].Value; c.want != "" && got != "nauthilus_dns: "+what+": "+c.want || v.Host != "127.0.0.3" {
					t.Errorf("%s: %q, then %s", what, got, v.Host)
				}
				if c.mode == servers.DNSSilent {
					break // one is enough to wait for
				}
			}
		})
	}
	dns.Close()
	if v := direct(t, d, query("TXT example.org.")); v.Host != "127.0.0.3" {
		t.Errorf("a server that is gone: %+v", v)
	}
}

// A long answer comes by TCP, one that is changed is seen at once, and a dry run
// asks nobody.
func TestDNS_Answers(t *testing.T) {
	long := strings.Repeat("x", 3000)
	dns := servers.StartDNS(t, "long.example.org. TXT "+long, "a.example.org. TXT one")
	d := newDirector(t, inFilter(`
		local v, err = nauthilus_dns.resolve(request.username, "TXT")
		nauthilus_builtin.custom_log_add("got", v and #v[1] .. v[1]:sub(1, 3) or err)`), withDNS(dns.Resolver()))
	got := func(name string) string { return direct(t, d, query(name)).Logs[0].Value }
	if g := got("long.example.org."); g != "3000xxx" {
		t.Errorf("a long answer: %s", g)
	}
	if g := got("a.example.org."); g != "3one" {
		t.Errorf("before the change: %s", g)
	}
	dns.Mode(servers.DNSTruncates)
	dns.Set(t, "a.example.org. TXT twos")
	if g := got("a.example.org."); g != "4two" {
		t.Errorf("after the change, by TCP: %s", g)
	}
	asked := len(dns.Asked())
	q := query("a.example.org.")
	q.DryRun = true
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	if g := direct(t, d, q).Logs[0].Value; g != "nauthilus_dns: not tried: a dry run reaches no network (usher route --network does)" || len(dns.Asked()) != asked {
		t.Errorf("a dry run: %s", g)
	}
	q.DryRun = false
	direct(t, d, q)
	if s := strings.Join(steps, "\n"); !strings.Contains(s, "nauthilus_dns TXT a.example.org.: ok (") || !strings.Contains(s, `nauthilus_dns TXT a.example.org. -> "twos"`) {
		t.Errorf("trace: %s", s)
	}
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint("many.example.org. TXT ", i)
	}
	dns.Set(t, many...)
	if g := got("many.example.org."); g != "nauthilus_dns: TXT many.example.org.: an answer of over 1000 records" {
		t.Errorf("many records: %s", g)
	}
}

// FuzzDNSResolve: whatever name and type a client brings along, there is an
// answer, or nil and a text.
func FuzzDNSResolve(f *testing.F) {
	dns := servers.StartDNS(f, dnsRecords...)
	d := newDirector(f, inFilter(`
		local v, err = nauthilus_dns.resolve(request.username, request.client_id)
		assert(v and err == nil or v == nil and type(err) == "string" and err ~= "")`), withDNS(dns.Resolver()))
	f.Add("example.org.", "MX")
	f.Add("80.2.0.192.in-addr.arpa", "ptr")
	f.Add("::1%eth0", "PTR")
	f.Add("a.b.ip6.arpa", "PTR")
	f.Add(strings.Repeat("0.", 32)+"ip6.arpa", "PTR")
	f.Add("\x00.", "TXT")
	f.Add("www.example.org.", "CNAME\x00")
	f.Fuzz(func(t *testing.T, name, kind string) {
		q := query(strings.TrimSuffix(name, ".") + ".") // no search domains
		q.Request.ClientID = kind
		direct(t, d, q)
	})
}
