package config

import (
	"time"

	"usher/proxy"
)

// Monitoring is the inventory of backends and how they are checked. It is
// Nauthilus' section of that name: one from there can be pasted.
type Monitoring struct {
	// Interval between two checks of a backend.
	Interval time.Duration `yaml:"interval" min:"10ms" max:"1h"`
	// Retry is the interval after a first failed check.
	Retry time.Duration `yaml:"retry" min:"10ms" max:"1h"`
	// Timeout of one check.
	Timeout time.Duration `yaml:"timeout" min:"10ms" max:"5m"`
	// Rise and Fall are how many checks in a row bring a backend up or down.
	Rise int `yaml:"rise" min:"1" max:"100"`
	Fall int `yaml:"fall" min:"1" max:"100"`
	// PanicThreshold is a percentage of the backends of one protocol.
	PanicThreshold int       `yaml:"panic_threshold" min:"1" max:"100"`
	BackendServers []Backend `yaml:"backend_servers"`
}

// Backend is one mail service: a protocol at a host and port. All entries of a
// host are one machine.
type Backend struct {
	Protocol string `yaml:"protocol" oneof:"imap pop3 smtp lmtp sieve http"` // required
	// Host is an address or a name. Host and Port are required, unless SRV is
	// set.
	Host string `yaml:"host"`
	Port int    `yaml:"port"`
	// TLS on connect. Not together with StartTLS.
	TLS           bool `yaml:"tls"`
	TLSSkipVerify bool `yaml:"tls_skip_verify"`
	// HAProxyV2 sends a PROXY v2 header before anything else.
	HAProxyV2 bool `yaml:"haproxy_v2"`
	// DeepCheck speaks the protocol, and logs in when TestUsername is set.
	DeepCheck    bool         `yaml:"deep_check"`
	TestUsername string       `yaml:"test_username"`
	TestPassword proxy.Secret `yaml:"test_password"`
	// RequestURI begins with a slash; http only. Empty: "/".
	RequestURI string `yaml:"request_uri"`
	// ExpectStatus is a class such as 2xx, or a number; http only.
	ExpectStatus Status `yaml:"expect_status"`
	StartTLS     bool   `yaml:"starttls"`
	// SRV is a name such as _imaps._tcp.example.org (RFC 2782), looked up instead
	// of Host and Port: the entry stands for each of its records.
	SRV string `yaml:"srv"`
	// Weight and Tags are the host's. An entry that leaves one out has that of
	// the host's first entry that does not.
	Weight int      `yaml:"weight" min:"0" max:"1000"`
	Tags   []string `yaml:"tags"`
}

func (b *Backend) setDefaults() {
	b.ExpectStatus = "2xx"
	b.Weight = 100
}

// inherit gives the entries of one host the weight and the tags that another
// entry of it has. Those with an SRV name have no host yet. given reports whether entry i of the list has the key.
func (m *Monitoring) inherit(given func(i int, key string) bool) {
	type traits struct{ weight, tags *Backend }
	hosts := map[string]traits{}
	for i := range m.BackendServers {
		b := &m.BackendServers[i]
		if b.Host == "" {
			continue
		}
		t := hosts[proxy.CanonicalHost(b.Host)]
		if t.weight == nil && given(i, "weight") {
			t.weight = b
		}
		if t.tags == nil && given(i, "tags") {
			t.tags = b
		}
		hosts[proxy.CanonicalHost(b.Host)] = t
	}
	for i := range m.BackendServers {
		b := &m.BackendServers[i]
		if b.Host == "" {
			continue
		}
		t := hosts[proxy.CanonicalHost(b.Host)]
		if t.weight != nil && !given(i, "weight") {
			b.Weight = t.weight.Weight
		}
		if t.tags != nil && !given(i, "tags") {
			b.Tags = t.tags.Tags
		}
	}
}
