package config

import (
	"slices"
	"strings"

	"usher/proxy"
)

const backendServers = "backend_server_monitoring.backend_servers"

func (k *checker) backends() {
	type endpoint struct {
		protocol, host string
		port           int
	}
	entries := map[endpoint]int{}
	hosts := map[string]int{}
	names := map[endpoint]int{} // with the SRV name for host
	for i := range k.Monitoring.BackendServers {
		b, path := &k.Monitoring.BackendServers[i], item(backendServers, i)
		k.backend(path, b)
		if b.SRV != "" {
			name := endpoint{b.Protocol, strings.ToLower(b.SRV), 0}
			if j, twice := names[name]; twice {
				k.add(path+".srv", "the same protocol and name as %s; expected each once", item(backendServers, j))
			} else {
				names[name] = i
			}
		}
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
	case b.SRV != "" && !validSRV(b.SRV):
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

// validSRV reports whether s is _service._proto.name (RFC 2782).
func validSRV(s string) bool {
	labels := strings.SplitN(s, ".", 3)
	return proxy.ValidHost(s) && len(labels) == 3 && labels[2] != "" &&
		len(labels[0]) > 1 && labels[0][0] == '_' && len(labels[1]) > 1 && labels[1][0] == '_'
}
