package config

import (
	"net/netip"
	"slices"
	"strings"
)

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
	case "userdb":
		if l.Upstream.IsZero() && k.ok(path+".upstream") {
			k.needsDriver(path)
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
	web := true
	rest, ok := strings.CutPrefix(d.URL, "http://")
	if !ok {
		rest, ok = strings.CutPrefix(d.URL, "https://")
	}
	if ok {
		rest = strings.TrimSuffix(rest, "/")
	} else {
		web = false
		rest, ok = strings.CutPrefix(d.URL, "tcp:")
	}
	a, err := ParseAddress(rest)
	if host, port := a.hostPort(); !ok || err != nil || strings.HasPrefix(rest, "tcp:") || a.Network != "tcp" || host == "" || port == "0" {
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
