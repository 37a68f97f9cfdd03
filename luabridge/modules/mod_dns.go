package modules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// A Resolver asks DNS. *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupAddr(ctx context.Context, address string) ([]string, error)
	LookupCNAME(ctx context.Context, name string) (string, error)
}

func (d *Deps) resolver() Resolver {
	if d.DNS != nil {
		return d.DNS
	}
	return lookups
}

// lookups asks the name servers of resolv.conf, by Go alone: what the C library
// looks up cannot be cancelled. Go's resolver sees that nobody waits any more only
// when the answer is due, five seconds on; so the connection is closed.
var lookups = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = c.Close() }) // the resolver closes it too
	}
	return c, err
}}

const dnsName = "nauthilus_dns"

const (
	dnsTimeout = 10 * time.Second
	maxRecords = 1000 // of one answer
)

// dnsModule is nauthilus_dns.
var dnsModule = Module{
	Name: dnsName, Global: true, Network: true,
	Doc: "Asks DNS, by the name servers of the system's `resolv.conf`. Needs `director.network: true`. " +
		"A look-up ends after three quarters of what is left of `director.timeout`, or ten seconds, so that the policy can still decide. Nothing is cached.",
	Funcs: []Func{{
		Name: "resolve", Do: dnsResolve,
		Sig: `(name: string, type?: "A"|"AAAA"|"NS"|"TXT"|"MX"|"CNAME"|"PTR") -> records: string[]|{host: string, pref: integer}[]|string|nil, err: string?`,
		Doc: "Returns the records of a name: for `A` (the default), `AAAA`, `NS` and `TXT` a list of strings; for `MX` a list of tables, the lowest `pref` first; for `CNAME` the name at the end of the chain, which is the name itself where there is none. " +
			"`PTR` takes an address, or its name under `in-addr.arpa` or `ip6.arpa`. Names in answers end in a dot; end yours in one so that the system's search domains are not tried. " +
			"Returns nil and a text if there is no such record, no answer in time, or the type is unknown; `{}` for `A` if the name has `AAAA` alone, and the other way round.",
		Example: `local addresses = nauthilus_dns.resolve("example.org")
print(addresses[1]) --> 192.0.2.80
local mx = nauthilus_dns.resolve("example.org", "MX")
print(mx[1].pref .. " " .. mx[1].host) --> 10 mail.example.org.
print(nauthilus_dns.resolve("example.org", "TXT")[1]) --> v=spf1 -all
print(nauthilus_dns.resolve("www.example.org", "CNAME")) --> example.org.
print(nauthilus_dns.resolve("192.0.2.80", "PTR")[1]) --> host80.example.org.
local nothing, err = nauthilus_dns.resolve("example.org", "X25")
print(err) --> nauthilus_dns: unsupported record type: X25`,
	}},
}

// A lookup asks for the records of one type.
type lookup func(ctx context.Context, r Resolver, name string) (records, error)

// records are an answer: strings, or one string, or tables with host and pref.
type records struct {
	texts  []string
	single bool
	mx     []*net.MX
}

var lookupsByType = map[string]lookup{
	"A": func(ctx context.Context, r Resolver, name string) (records, error) {
		return addresses(ctx, r, name, "ip4", "ip6")
	},
	"AAAA": func(ctx context.Context, r Resolver, name string) (records, error) {
		return addresses(ctx, r, name, "ip6", "ip4")
	},
	"TXT": func(ctx context.Context, r Resolver, name string) (records, error) {
		texts, err := r.LookupTXT(ctx, name)
		return records{texts: texts}, err
	},
	"NS": func(ctx context.Context, r Resolver, name string) (records, error) {
		list, err := r.LookupNS(ctx, name)
		var out records
		for _, ns := range list {
			out.texts = append(out.texts, ns.Host)
		}
		return out, err
	},
	"MX": func(ctx context.Context, r Resolver, name string) (records, error) {
		list, err := r.LookupMX(ctx, name)
		// Of equal ones the resolver makes a random order: policies want the same
		// every time.
		slices.SortFunc(list, func(a, b *net.MX) int { return cmp.Or(cmp.Compare(a.Pref, b.Pref), cmp.Compare(a.Host, b.Host)) })
		return records{mx: list}, err
	},
	"CNAME": func(ctx context.Context, r Resolver, name string) (records, error) {
		end, err := r.LookupCNAME(ctx, name)
		return records{texts: []string{end}, single: true}, err
	},
	"PTR": func(ctx context.Context, r Resolver, name string) (records, error) {
		address, ok := addressOf(name)
		if !ok {
			return records{}, errors.New("a PTR look-up takes an address")
		}
		texts, err := r.LookupAddr(ctx, address.String())
		return records{texts: texts}, err
	},
}

// addresses looks up addresses of one family. A name that has those of the other
// alone is no failure: Nauthilus returns an empty list.
func addresses(ctx context.Context, r Resolver, name, network, other string) (records, error) {
	list, err := r.LookupNetIP(ctx, network, name)
	if none(err) {
		if others, otherErr := r.LookupNetIP(ctx, other, name); otherErr == nil && len(others) > 0 {
			return records{}, nil
		}
	}
	var out records
	for _, a := range list {
		out.texts = append(out.texts, a.Unmap().String())
	}
	return out, err
}

// none reports whether there is no address of that family, as far as is known.
func none(err error) bool {
	var fault *net.DNSError
	var family *net.AddrError
	return errors.As(err, &fault) && fault.IsNotFound || errors.As(err, &family)
}

// dnsResolve(name[, type]) returns the records, or nil and what went wrong.
func dnsResolve(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "resolve", "name (string)")
	}
	kind := "A"
	switch v := L.Get(2).(type) {
	case *lua.LNilType:
	case lua.LString:
		kind = strings.ToUpper(clip(string(v), 16))
	default:
		argError(L, 2, "resolve", "record type (string)")
	}
	take(L, 2000, 16<<10)
	answer, err := CallOf(L).resolve(L, string(name), kind)
	if err != nil {
		L.Push(lua.LNil)
		L.Push(lua.LString(dnsName + ": " + clip(err.Error(), 500)))
		return 2
	}
	L.Push(answer)
	return 1
}

func (c *Call) resolve(L *lua.LState, name, kind string) (lua.LValue, error) {
	look := lookupsByType[kind]
	if look == nil {
		return nil, fmt.Errorf("unsupported record type: %s", strings.ToValidUTF8(kind, "?"))
	}
	if !isDomain(name) {
		return nil, errors.New("no valid name")
	}
	ctx, done, err := c.reach(L, dnsName, dnsTimeout, func() string { return kind + " " + name })
	if err != nil {
		return nil, err
	}
	found, err := look(ctx, c.resolver(), name)
	n := len(found.texts) + len(found.mx)
	if partial := (*net.DNSError)(nil); n > 0 && !found.single && errors.As(err, &partial) && ctx.Err() == nil {
		err = nil // of several records some have no valid name in them, and are left out
	}
	if err == nil && n > maxRecords {
		err = fmt.Errorf("an answer of over %d records", maxRecords)
	}
	if err = dnsFault(ctx, kind, name, err); err != nil {
		done(err)
		return nil, err
	}
	done(nil)
	if c.tracing() {
		c.trace("%s %s %s -> %s", dnsName, kind, name, clip(found.String(), 200))
	}
	return found.value(L), nil
}

// dnsFault is what went wrong, in words that say nothing of how usher looks.
func dnsFault(ctx context.Context, kind, name string, err error) error {
	var fault *net.DNSError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return fmt.Errorf("%s %s: no answer in time", kind, name)
	case errors.As(err, &fault):
		return fmt.Errorf("%s %s: %s", kind, name, fault.Err)
	}
	return fmt.Errorf("%s %s: %w", kind, name, err)
}

// String is an answer in a few words.
func (r *records) String() string {
	texts := r.texts
	for _, m := range r.mx {
		texts = append(texts, strconv.Itoa(int(m.Pref))+" "+m.Host)
	}
	return strconv.Quote(strings.Join(texts, ", "))
}

// value is an answer as scripts get it.
func (r *records) value(L *lua.LState) lua.LValue {
	bytes := 0
	for _, s := range r.texts {
		bytes += 64 + len(s)
	}
	take(L, len(r.texts)+20*len(r.mx), 128+bytes+1024*len(r.mx))
	if r.single {
		return lua.LString(r.texts[0])
	}
	list := L.CreateTable(len(r.texts)+len(r.mx), 0)
	for _, s := range r.texts {
		list.Append(lua.LString(s))
	}
	for _, m := range r.mx {
		t := L.CreateTable(0, 2)
		t.RawSetString("host", lua.LString(m.Host))
		t.RawSetString("pref", lua.LNumber(m.Pref))
		list.Append(t)
	}
	return list
}

// isDomain reports whether DNS could have that name: what clients send may be
// anything.
func isDomain(name string) bool {
	if name == "" || len(name) > maxHost {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// addressOf reads an address, or the name that its PTR records stand under.
func addressOf(name string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.WithZone(""), true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	labels := strings.Split(rest, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(labels)
	var b strings.Builder
	for i, l := range labels {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		if len(l) != 1 {
			return netip.Addr{}, false
		}
		b.WriteString(l)
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
