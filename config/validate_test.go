package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestValidate_Code: a Config made in code is checked the same; its faults have
// no place.
func TestValidate_Code(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.Log.Level = "loud"
	c.Nginx.Listeners = []NginxListener{{Address: Address{"tcp", "192.0.2.1:1"}, Path: "/auth", Protocols: []string{"smtp"}}}
	want := `log.level: bad value "loud"; expected debug, info, warn or error
nginx.listeners[0].address: "192.0.2.1:1" is off loopback; expected shared_secret, or insecure: true
nginx.listeners[0].protocols[0]: smtp without a password driver that verifies would be an open relay; expected another driver than passthrough in passdb`
	err := c.Validate()
	if err == nil {
		t.Fatal("no fault")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequireListener(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		ok         bool
	}{
		{"none", "log: {level: info}", false},
		{"nginx", `nginx: {listeners: [{address: "127.0.0.1:1"}]}`, true},
		{"dovecot", `dovecot: {listeners: [{address: "unix:/run/x"}]}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := load(t, tt.yaml).RequireListener()
			if tt.ok != (err == nil) {
				t.Error(err)
			}
			if err != nil && err.Error() != "usher.yaml: no listener; expected one in nginx.listeners or dovecot.listeners" {
				t.Error(err)
			}
		})
	}
}

// TestAccepted: what must not be a fault.
func TestAccepted(t *testing.T) {
	for name, yaml := range map[string]string{
		"smtp with a driver": `
passdb: [{driver: passwd_file, path: /etc/usher/passwd}, {driver: passthrough}]
nginx: {listeners: [{address: "127.0.0.1:1", protocols: [imap, pop3, smtp]}]}`,
		"same path, other port": `
nginx: {listeners: [{address: "127.0.0.1:1"}, {address: "127.0.0.1:2"}, {address: "127.0.0.1:0"}, {address: "127.0.0.1:0", path: /x}]}`,
		"interposed without a driver": `
passdb: []
dovecot: {listeners: [{address: "unix:/run/a", upstream: "unix:/run/b", mechanisms: []}]}`,
		"no control at all": `control: {address: "", http: ""}`,
		"merge keys": `
backend_server_monitoring:
  backend_servers:
    - &b {protocol: imap, host: 127.0.0.2, port: 143}
    - {<<: *b, host: 127.0.0.3}
    - {<<: [{weight: 5}, *b], host: 127.0.0.4, weight: 7}`,
		"one host, several ports": `
backend_server_monitoring:
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: 143}
    - {protocol: imap, host: 127.0.0.2, port: 993, tls: true}
    - {protocol: http, host: 127.0.0.2, port: 80, request_uri: /up, expect_status: 204}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse("usher.yaml", []byte(yaml)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		want       []string
	}{
		{"default", "", []string{"director.unlisted_backends"}},
		{"none", "director: {unlisted_backends: deny}", nil},
		{"all", `
director: {memory: 1MiB}
redis: {addresses: ["127.0.0.1:6379"]}
dovecot: {doveadm: [{url: "http://127.0.0.1:8080"}]}`, []string{"director.unlisted_backends"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, w := range load(t, tt.yaml).Warnings() {
				key, _, _ := strings.Cut(w, ": ")
				got = append(got, key)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTables: each row names a key that there is, and only words that it has.
func TestTables(t *testing.T) {
	c := load(t, secretYAML)
	c.Director.Features = []Feature{{}}
	known := keysOf(c)
	for _, s := range remarkable {
		words, ok := known[s.key]
		if !ok {
			t.Errorf("%s is no key", s.key)
		}
		for _, v := range s.values {
			if !strings.Contains(" "+words+" ", " "+v+" ") {
				t.Errorf("%s is never %s", s.key, v)
			}
		}
	}
}
