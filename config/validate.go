package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"usher/proxy"
)

// Validate checks what the values must be, each alone and together: ranges,
// words, addresses, and the rules on who may do what. It returns Faults or nil.
// Load has done so already; call it on a Config that was made or changed in code.
func (c *Config) Validate() error {
	r := newReport(c.src)
	c.check(r)
	return r.err()
}

// RequireListener returns Faults when neither nginx nor Dovecot has a listener:
// then there is nothing to serve.
func (c *Config) RequireListener() error {
	r := newReport(c.src)
	if len(c.Nginx.Listeners)+len(c.Dovecot.Listeners) == 0 {
		r.addAt(origin{}, "", "no listener; expected one in nginx.listeners or dovecot.listeners")
	}
	return r.err()
}

// check is Validate with what decoding found.
func (c *Config) check(r *report) {
	walk(reflect.ValueOf(c).Elem(), "", func(path string, tag reflect.StructTag, v reflect.Value) {
		checkTags(r, path, tag, v)
	})
	k := &checker{report: r, Config: c, bound: map[Address]string{}}
	k.general()
	for i := range c.Nginx.Listeners {
		k.nginxListener(item("nginx.listeners", i), &c.Nginx.Listeners[i])
	}
	k.dovecot()
	k.director()
	k.passdb()
	k.redis()
	k.control()
	k.backends()
}

// checker holds what the cross-checks share.
type checker struct {
	*report
	*Config
	bound map[Address]string // listening addresses and their keys
}

// checkTags checks a value against min, max and oneof.
func checkTags(r *report, path string, tag reflect.StructTag, v reflect.Value) {
	if low, ok := tag.Lookup("min"); ok {
		high := tag.Get("max")
		if n := number(v); n < limit(v.Type(), low) || n > limit(v.Type(), high) {
			r.add(path, "%s is out of range; expected %s to %s", textOf(v), low, high)
		}
	}
	words := strings.Fields(tag.Get("oneof"))
	if len(words) == 0 {
		return
	}
	if list, ok := v.Interface().([]string); ok {
		for i, s := range list {
			switch {
			case !slices.Contains(words, s):
				r.add(item(path, i), "bad value %s; expected %s", r.show(item(path, i), s), oneOf(words))
			case slices.Contains(list[:i], s):
				r.add(item(path, i), "%q is given twice; expected each once", s)
			}
		}
		return
	}
	switch s := v.String(); {
	case s == "":
		r.add(path, "is missing; expected %s", oneOf(words))
	case !slices.Contains(words, s):
		r.add(path, "bad value %s; expected %s", r.show(path, s), oneOf(words))
	}
}

// number is the value of an int, Duration or Size.
func number(v reflect.Value) int64 { return v.Int() }

// limit reads a bound as a value of type t.
func limit(t reflect.Type, text string) int64 {
	v := reflect.New(t).Elem()
	if err := setText(v, text); err != nil {
		panic("config: bad bound in a struct tag: " + text)
	}
	return v.Int()
}

// oneOf joins words: a, b or c.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (k *checker) general() {
	if k.StateDir == "" {
		k.add("state_dir", "is empty; expected a folder")
	}
	sep := k.Dovecot.MasterUserSeparator
	if len(sep) > 1 || sep != "" && (sep[0] <= ' ' || sep[0] >= 0x7f) {
		k.add("dovecot.master_user_separator", "bad value %s; expected at most one printable ASCII byte", k.show("dovecot.master_user_separator", sep))
	}
}

// listen checks an address to listen at.
func (k *checker) listen(path string, a Address) {
	if a.IsZero() {
		k.add(path, "is missing; expected %s", addressForm)
		return
	}
	if other, taken := k.bound[a]; taken && !strings.HasSuffix(a.Addr, ":0") {
		k.add(path, "%s is also %s; expected an address of its own", k.show(path, a.String()), other)
		return
	}
	k.bound[a] = path
}

// dial checks an address to connect to.
func (k *checker) dial(path string, a Address) {
	switch a.Network {
	case "", "unix":
		return
	case "tcp":
		host, port := a.hostPort()
		if ip, err := netip.ParseAddr(host); host != "" && port != "0" && (err != nil || !ip.IsUnspecified()) {
			return
		}
	}
	k.add(path, "nothing to connect to at %s; expected HOST:PORT or unix:/PATH", k.show(path, a.String()))
}

// socketOwner checks the keys that only a unix socket has.
func (k *checker) socketOwner(path string, a Address, mode Mode, owner, group string) {
	if a.Network == "unix" || !k.ok(path+".address") {
		return
	}
	for _, x := range []struct{ key, value string }{{"mode", mode.String()}, {"owner", owner}, {"group", group}} {
		if x.value != "" {
			k.add(join(path, x.key), "is set for %s; expected only with unix:/PATH", k.show(path+".address", a.String()))
		}
	}
}

func (k *checker) nginxListener(path string, l *NginxListener) {
	k.listen(path+".address", l.Address)
	k.socketOwner(path, l.Address, l.Mode, l.Owner, l.Group)
	if l.Address.offLoopback() && !l.guarded() && k.ok(path+".shared_secret") && k.ok(path+".insecure") {
		k.add(path+".address", "%s is off loopback; expected shared_secret, or insecure: true", k.show(path+".address", l.Address.String()))
	}
	if !strings.HasPrefix(l.Path, "/") || strings.ContainsAny(l.Path, " ?#") {
		k.add(path+".path", "bad value %s; expected a path that begins with /", k.show(path+".path", l.Path))
	}
	if len(l.Protocols) == 0 {
		k.add(path+".protocols", "is empty; expected some of imap, pop3, smtp")
	}
	if i := slices.Index(l.Protocols, "smtp"); i >= 0 {
		if !k.verifies() && k.ok("passdb") {
			k.add(item(path+".protocols", i), "smtp without a password driver that verifies would be an open relay; expected another driver than passthrough in passdb")
		}
		if l.AllowNoAuth {
			k.add(path+".allow_no_auth", "true together with smtp in protocols; expected false, or a listener without smtp")
		}
	}
	k.needsDriver(path)
}

// verifies reports whether any driver compares passwords.
func (k *checker) verifies() bool {
	return slices.ContainsFunc(k.Passdb, func(p Passdb) bool { return p.Driver != "passthrough" })
}

// needsDriver: the listener at path asks the password drivers.
func (k *checker) needsDriver(path string) {
	if len(k.Passdb) == 0 {
		k.add("passdb", "is empty, but %s asks for passwords; expected at least one driver", path)
	}
}

func (k *checker) dovecot() {
	for i := range k.Dovecot.Listeners {
		k.dovecotListener(item("dovecot.listeners", i), &k.Dovecot.Listeners[i])
	}
	if m := k.Dovecot.Master; (m.User == "") != m.Pass.IsEmpty() && k.ok("dovecot.master.pass") && k.ok("dovecot.master.user") {
		k.add("dovecot.master", "user and pass belong together; expected both or neither")
	}
	for i := range k.Dovecot.Doveadm {
		k.doveadm(item("dovecot.doveadm", i), &k.Dovecot.Doveadm[i])
	}
}

func (k *checker) dovecotListener(path string, l *DovecotListener) {
	k.listen(path+".address", l.Address)
	k.socketOwner(path, l.Address, l.Mode, l.Owner, l.Group)
	k.dial(path+".upstream", l.Upstream)
	if l.Address.offLoopback() && !l.guarded() && k.listOK(path+".allow_from") && k.ok(path+".insecure") {
		k.add(path+".address", "%s is off loopback; expected allow_from, or insecure: true", k.show(path+".address", l.Address.String()))
	}
	if l.Address.Network == "unix" && len(l.AllowFrom) > 0 {
		k.add(path+".allow_from", "is set for a unix socket; expected only with HOST:PORT")
	}
	switch l.Kind {
	case "notify", "director-admin":
		if !l.Upstream.IsZero() {
			k.add(path+".upstream", "is set for kind %s; expected only with auth or userdb", l.Kind)
		}
		if l.Kind == "notify" && l.Address.Network == "tcp" {
			k.add(path+".address", "%s for kind notify, which is a FIFO; expected unix:/PATH or fd:NAME", k.show(path+".address", l.Address.String()))
		}
	case "auth":
		if l.Upstream.IsZero() && k.ok(path+".upstream") {
			if len(l.Mechanisms) == 0 && k.ok(path+".mechanisms") {
				k.add(path+".mechanisms", "is empty; expected at least one without an upstream")
			}
			k.needsDriver(path)
		}
	}
}

// listOK reports whether neither a list nor its items have a fault.
func (k *checker) listOK(path string) bool {
	for key := range k.seen {
		if key == path || strings.HasPrefix(key, path+"[") {
			return false
		}
	}
	return true
}

func (k *checker) doveadm(path string, d *Doveadm) {
	if !k.ok(path + ".url") {
		return
	}
	scheme, rest, _ := strings.Cut(d.URL, ":")
	rest = strings.TrimPrefix(rest, "//")
	if scheme != "tcp" {
		rest = strings.TrimSuffix(rest, "/")
	}
	a, err := ParseAddress(rest)
	host, port := a.hostPort()
	web := scheme == "http" || scheme == "https"
	if err == nil && web && !strings.Contains(d.URL, "://") || !web && scheme != "tcp" || err != nil || a.Network != "tcp" || host == "" || port == "0" {
		k.add(path+".url", "bad value %s; expected http://HOST:PORT, https://HOST:PORT or tcp:HOST:PORT", k.show(path+".url", d.URL))
		return
	}
	switch {
	case !web && !d.APIKey.IsEmpty():
		k.add(path+".api_key", "is set for a tcp url; expected password")
	case !web && d.Password.IsEmpty() && k.ok(path+".password"):
		k.add(path+".url", "a tcp url without password; expected one")
	case web && !d.APIKey.IsEmpty() && !d.Password.IsEmpty():
		k.add(path+".password", "is set beside api_key; expected one of them")
	}
}

func (k *checker) director() {
	d := &k.Director
	if d.Script != "" && len(d.Filters) > 0 {
		k.add("director.filters", "set together with director.script; expected one of them")
	}
	named := func(list string, n int, at func(int) (name, script string)) {
		first := map[string]int{}
		for i := range n {
			path := item(list, i)
			name, script := at(i)
			switch other, twice := first[name]; {
			case !isName(name):
				k.add(path+".name", "bad value %s; expected 1 to 64 letters, digits, dots, dashes or underscores", k.show(path+".name", name))
			case twice:
				k.add(path+".name", "%q is also the name of %s; expected another", name, item(list, other))
			default:
				first[name] = i
			}
			if script == "" {
				k.add(path+".script", "is missing; expected a Lua file")
			}
		}
	}
	named("director.filters", len(d.Filters), func(i int) (string, string) { return d.Filters[i].Name, d.Filters[i].Script })
	named("director.features", len(d.Features), func(i int) (string, string) { return d.Features[i].Name, d.Features[i].Script })
	for i, s := range d.Init {
		if s == "" {
			k.add(item("director.init", i), "is empty; expected a Lua file")
		}
	}
	for i, s := range d.HostAttributes {
		if s == "" || len(s) > 64 || strings.ContainsAny(s, " =\t") || hasControl(s) {
			path := item("director.host_attributes", i)
			k.add(path, "bad value %s; expected the name of a field", k.show(path, s))
		}
	}
	for i, s := range d.Env {
		if !isVariable(s) {
			path := item("director.env", i)
			k.add(path, "bad value %s; expected the name of an environment variable", k.show(path, s))
		}
	}
}

func (k *checker) passdb() {
	for i := range k.Passdb {
		p, path := &k.Passdb[i], item("passdb", i)
		k.dial(path+".address", p.Address)
		k.dial(path+".userdb_address", p.UserdbAddress)
		for _, x := range []struct {
			driver, key, value string
			required           bool
		}{
			{"passwd_file", "path", p.Path, true},
			{"lua", "script", p.Script, true},
			{"dovecot", "address", p.Address.String(), true},
			{"dovecot", "userdb_address", p.UserdbAddress.String(), false},
		} {
			key := join(path, x.key)
			switch {
			case x.driver == p.Driver && x.required && x.value == "":
				k.add(key, "is missing; expected one for driver %s", p.Driver)
			case x.driver != p.Driver && x.value != "" && k.ok(path+".driver"):
				k.add(key, "is set for driver %s; expected only with %s", p.Driver, x.driver)
			}
		}
		if p.Driver == "passthrough" && i < len(k.Passdb)-1 {
			k.add(path+".driver", "passthrough takes every user, the drivers after it are never asked; expected it last")
		}
	}
}

func (k *checker) redis() {
	for i, a := range k.Redis.Addresses {
		path := item("redis.addresses", i)
		if a.IsZero() {
			k.add(path, "is empty; expected HOST:PORT or unix:/PATH")
		}
		k.dial(path, a)
	}
	k.together("redis.cert", k.Redis.Cert, "redis.key", k.Redis.Key)
	if !k.Redis.TLS && k.ok("redis.tls") {
		for _, x := range []struct{ key, value string }{{"redis.ca", k.Redis.CA}, {"redis.cert", k.Redis.Cert}} {
			if x.value != "" {
				k.add(x.key, "is set without redis.tls; expected tls: true")
			}
		}
	}
}

// together: two files of which one alone is of no use.
func (k *checker) together(keyA, a, keyB, b string) {
	switch {
	case a != "" && b == "" && k.ok(keyB):
		k.add(keyA, "is set without %s; expected both or neither", keyB)
	case b != "" && a == "" && k.ok(keyA):
		k.add(keyB, "is set without %s; expected both or neither", keyA)
	}
}

func (k *checker) control() {
	c := &k.Control
	if c.Address.Network == "tcp" {
		k.add("control.address", "%s is not a unix socket; expected unix:/PATH or fd:NAME (other machines: control.tcp)", k.show("control.address", c.Address.String()))
	}
	for _, x := range []struct {
		key string
		a   Address
	}{{"control.address", c.Address}, {"control.http", c.HTTP}, {"control.tcp.address", c.TCP.Address}} {
		if !x.a.IsZero() {
			k.listen(x.key, x.a)
		}
	}
	k.together("control.tcp.tls_cert", c.TCP.TLSCert, "control.tcp.tls_key", c.TCP.TLSKey)
	if c.TCP.Address.IsZero() {
		return
	}
	switch {
	case c.TCP.Address.Network != "tcp":
		k.add("control.tcp.address", "%s is not a TCP address; expected HOST:PORT", k.show("control.tcp.address", c.TCP.Address.String()))
	case c.TCP.Token.IsEmpty() && c.TCP.ClientCA == "" && k.ok("control.tcp.token"):
		k.add("control.tcp.address", "is open to everybody; expected control.tcp.token or control.tcp.client_ca")
	case c.TCP.ClientCA != "" && c.TCP.TLSCert == "":
		k.add("control.tcp.client_ca", "is set without control.tcp.tls_cert; expected both")
	case c.TCP.Address.offLoopback() && c.TCP.TLSCert == "":
		k.add("control.tcp.address", "is off loopback without TLS; expected control.tcp.tls_cert and control.tcp.tls_key")
	}
}

const backendServers = "backend_server_monitoring.backend_servers"

func (k *checker) backends() {
	type endpoint struct {
		protocol, host string
		port           int
	}
	entries := map[endpoint]int{}
	hosts := map[string]int{}
	for i := range k.Monitoring.BackendServers {
		b, path := &k.Monitoring.BackendServers[i], item(backendServers, i)
		k.backend(path, b)
		if b.Host == "" {
			continue
		}
		id := proxy.CanonicalHost(b.Host)
		end := endpoint{b.Protocol, id, b.Port}
		if j, twice := entries[end]; twice {
			k.add(path, "the same protocol, host and port as %s; expected each once", item(backendServers, j))
		} else {
			entries[end] = i
		}
		j, other := hosts[id]
		if !other {
			hosts[id] = i
			continue
		}
		first := &k.Monitoring.BackendServers[j]
		if b.Weight != first.Weight {
			k.add(path+".weight", "%d, but %s has %d; expected one weight for host %s", b.Weight, item(backendServers, j), first.Weight, first.Host)
		}
		if !slices.Equal(b.Tags, first.Tags) {
			k.add(path+".tags", "differ from those of %s; expected the same for host %s", item(backendServers, j), first.Host)
		}
	}
}

func (k *checker) backend(path string, b *Backend) {
	at := func(key string) string { return join(path, key) }
	switch {
	case b.SRV != "" && (b.Host != "" || b.Port != 0):
		k.add(at("srv"), "set together with host or port; expected one or the other")
	case b.SRV != "" && !proxy.ValidHost(b.SRV):
		k.add(at("srv"), "bad value %s; expected a name such as _imaps._tcp.example.org", k.show(at("srv"), b.SRV))
	case b.SRV != "":
	default:
		if b.Host == "" {
			k.add(at("host"), "is missing; expected an IP address or a host name")
		} else if !proxy.ValidHost(b.Host) {
			k.add(at("host"), "bad value %s; expected an IP address or a host name", k.show(at("host"), b.Host))
		}
		if b.Port == 0 && !k.report.src.has(at("port")) {
			k.add(at("port"), "is missing; expected 1 to 65535")
		} else if b.Port < 1 || b.Port > 65535 {
			k.add(at("port"), "%d is out of range; expected 1 to 65535", b.Port)
		}
	}
	if b.TLS && b.StartTLS {
		k.add(at("starttls"), "set together with tls; expected one of them")
	}
	if b.Protocol == "http" {
		if b.StartTLS {
			k.add(at("starttls"), "is set for http, which has none; expected tls")
		}
		if b.RequestURI != "" && (b.RequestURI[0] != '/' || strings.Contains(b.RequestURI, " ")) {
			k.add(at("request_uri"), "bad value %s; expected a path that begins with /", k.show(at("request_uri"), b.RequestURI))
		}
	} else if k.ok(at("protocol")) {
		if b.RequestURI != "" {
			k.add(at("request_uri"), "is set for %s; expected only with http", b.Protocol)
		}
		if b.ExpectStatus != "" && b.ExpectStatus != "2xx" {
			k.add(at("expect_status"), "is set for %s; expected only with http", b.Protocol)
		}
	}
	for i, tag := range b.Tags {
		if tag == "" || len(tag) > 64 || strings.ContainsAny(tag, " \t@") || hasControl(tag) {
			k.add(item(at("tags"), i), "bad value %s; expected 1 to 64 bytes without spaces and @", k.show(item(at("tags"), i), tag))
		}
	}
}
