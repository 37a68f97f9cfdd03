package config

import "strings"

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
	if k.Affinity.Store == "valkey" && k.ok("affinity.store") {
		if len(k.Redis.Addresses) == 0 {
			k.add("affinity.store", "is valkey without redis.addresses; expected the address of the store there")
		}
		if strings.ContainsAny(k.Redis.Prefix, "{}") {
			k.add("redis.prefix", "bad value %s; expected no brace with affinity.store valkey", k.show("redis.prefix", k.Redis.Prefix))
		}
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
