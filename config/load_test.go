package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

// compare ignores where values came from, and looks into secrets.
var compare = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".src" }, cmp.Ignore()),
	cmp.AllowUnexported(Config{}),
	cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	// A list that is empty is one that is not there.
	cmp.FilterValues(func(a, b any) bool {
		x, y := reflect.ValueOf(a), reflect.ValueOf(b)
		return x.IsValid() && y.IsValid() && x.Kind() == reflect.Slice && y.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0
	}, cmp.Ignore()),
}

func load(t *testing.T, yaml string) *Config {
	t.Helper()
	c, err := parse("usher.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFull: the contract's example loads, and its values are the defaults but
// for the lists that show one entry.
func TestFull(t *testing.T) {
	got, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Nginx.Listeners = []NginxListener{{
		Address:   Address{"tcp", "127.0.0.1:9080"},
		Path:      "/auth",
		Protocols: []string{"imap", "pop3"},
	}}
	want.Dovecot.Listeners = []DovecotListener{{
		Address:    Address{"unix", "/run/dovecot/login/usher.d/sock"},
		Kind:       "auth",
		Mode:       0o666,
		Upstream:   Address{"unix", "/run/dovecot/auth-login"},
		Mechanisms: []string{"PLAIN", "LOGIN"},
	}}
	want.Dovecot.Doveadm = []Doveadm{{URL: "http://127.0.0.1:8080", Role: "proxy"}}
	want.Monitoring.BackendServers = []Backend{{
		Protocol:     "imap",
		Host:         "127.0.0.2",
		Port:         143,
		ExpectStatus: "2xx",
		Weight:       100,
	}}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("full.yaml (-want +got):\n%s", diff)
	}
}

// TestFull_KeysWritten: the example names every key but those that the contract
// mentions in its text alone.
func TestFull_KeysWritten(t *testing.T) {
	c, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	walk(reflect.ValueOf(c).Elem(), "", func(path string, _ reflect.StructTag, _ reflect.Value) {
		if !c.src.has(path) {
			missing = append(missing, path)
		}
	})
	want := []string{
		"nginx.listeners[0].mode", "nginx.listeners[0].owner", "nginx.listeners[0].group",
		"dovecot.listeners[0].owner", "dovecot.listeners[0].group", "dovecot.listeners[0].insecure",
		"dovecot.doveadm[0].password",
		"passdb[0].path", "passdb[0].script", "passdb[0].address", "passdb[0].userdb_address",
	}
	if diff := cmp.Diff(want, missing); diff != "" {
		t.Errorf("keys that are not in the example (-want +got):\n%s", diff)
	}
}

// TestDefaults: an entry that sets only what it must has the values that the
// contract shows.
func TestDefaults(t *testing.T) {
	t.Run("no file", func(t *testing.T) {
		got, err := Load("")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Default(), got, compare); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	for name, yaml := range map[string]string{
		"empty file":     "",
		"comment only":   "# nothing\n",
		"null document":  "~\n",
		"null sections":  "log:\nnginx:\ndirector:\n  script:\n",
		"empty sections": "log: {}\nnginx: {listeners: []}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(Default(), load(t, yaml), compare); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("entries", func(t *testing.T) {
		want, err := Load("testdata/full.yaml")
		if err != nil {
			t.Fatal(err)
		}
		got := load(t, `
nginx: {listeners: [{address: "127.0.0.1:9080"}]}
dovecot:
  listeners: [{address: unix:/run/dovecot/login/usher.d/sock, upstream: unix:/run/dovecot/auth-login}]
  doveadm: [{url: "http://127.0.0.1:8080"}]
backend_server_monitoring: {backend_servers: [{protocol: imap, host: 127.0.0.2, port: 143}]}
`)
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestLoad_Nauthilus(t *testing.T) {
	c := load(t, `
backend_server_monitoring:
  backend_servers:
    - protocol: imap
      host: mail1.example.org
      port: "993"
      tls: true
      tls_skip_verify: true
      haproxy_v2: true
      deep_check: true
      test_username: probe@example.org
      test_password: 0042
    - protocol: http
      host: 192.0.2.10
      port: 8080
      request_uri: /health
      tls: false
`)
	want := []Backend{
		{
			Protocol: "imap", Host: "mail1.example.org", Port: 993, TLS: true, TLSSkipVerify: true, HAProxyV2: true, DeepCheck: true,
			TestUsername: "probe@example.org", TestPassword: proxy.NewSecret("0042"), ExpectStatus: "2xx", Weight: 100,
		},
		{Protocol: "http", Host: "192.0.2.10", Port: 8080, RequestURI: "/health", ExpectStatus: "2xx", Weight: 100},
	}
	if diff := cmp.Diff(want, c.Monitoring.BackendServers, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_HostTraits(t *testing.T) {
	c := load(t, `
backend_server_monitoring:
  backend_servers:
    - {protocol: imap, host: Mail1.example.org, port: 143}
    - {protocol: pop3, host: mail1.example.org., port: 110, weight: 50, tags: [a, b]}
    - {protocol: lmtp, host: 127.0.0.2, port: 24}
    - {protocol: sieve, host: mail1.example.org, port: 4190, weight: 50}
`)
	var got []string
	for _, b := range c.Monitoring.BackendServers {
		got = append(got, fmt.Sprintf("%s %d %v", b.Protocol, b.Weight, b.Tags))
	}
	want := []string{"imap 50 [a b]", "pop3 50 [a b]", "lmtp 100 []", "sieve 50 [a b]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_Environment(t *testing.T) {
	t.Setenv("USHER_LOG_LEVEL", "debug")
	t.Setenv("USHER_LOG", "shadows nothing")
	t.Setenv("USHER_NODE", "") // empty overrides nothing
	t.Setenv("USHER_DIRECTOR_SCRIPT", "/etc/usher/${USHER_TEST_NAME}.lua")
	t.Setenv("USHER_TEST_NAME", "mine")
	t.Setenv("USHER_DIRECTOR_HOST_ATTRIBUTES", "host, Proxy-Host")
	t.Setenv("USHER_DIRECTOR_MEMORY", "1MiB")
	t.Setenv("USHER_FAILURE_DELAY", "0s")
	t.Setenv("USHER_CONTROL_HTTP", "unix:/run/usher/http.sock")
	t.Setenv("USHER_REDIS_ADDRESSES", "192.0.2.1:6379,192.0.2.2:6379")
	t.Setenv("USHER_REDIS_PASSWORD", "${USHER_TEST_PW}")
	t.Setenv("USHER_TEST_PW", "file:/is/taken/as/it/stands")
	t.Setenv("USHER_BACKEND_SERVER_MONITORING_INTERVAL", "7s")

	want := Default()
	want.Node = "node1"
	want.Log.Level = "debug"
	want.Director.Script = "/etc/usher/mine.lua"
	want.Director.HostAttributes = []string{"host", "Proxy-Host"}
	want.Director.Memory = 1 << 20
	want.FailureDelay = 0
	want.Control.HTTP = Address{"unix", "/run/usher/http.sock"}
	want.Redis.Addresses = []Address{{"tcp", "192.0.2.1:6379"}, {"tcp", "192.0.2.2:6379"}}
	want.Redis.Password = proxy.NewSecret("file:/is/taken/as/it/stands")
	want.Monitoring.Interval = 7 * time.Second
	got := load(t, "node: node1\nlog: {level: warn}\ndirector: {script: /x.lua}\n")
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEnvNames: no two keys share a variable, and viper's lower case changes no
// key.
func TestEnvNames(t *testing.T) {
	of := map[string]string{}
	leaves(reflect.ValueOf(Default()).Elem(), "", func(path string, _ reflect.Value) {
		name := envName(path)
		if other, twice := of[name]; twice {
			t.Errorf("%s is both %s and %s", name, other, path)
		}
		of[name] = path
		if path != strings.ToLower(path) {
			t.Errorf("%s is not in lower case", path)
		}
	})
}

func TestLoad_Secrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("lf", "from file\n")
	write("crlf", "from file\r\n")
	write("two", "one\ntwo\n")
	write("empty", "\n")
	write("long", strings.Repeat("x", maxSecretFile+1))
	t.Setenv("DIR", dir)
	t.Setenv("PW", "from ${env}")
	for _, tt := range []struct{ name, in, want, problem string }{
		{"literal", "plain", "plain", ""},
		{"empty", "", "", ""},
		{"variable", "${PW}", "from ${env}", ""},
		{"inside", "a${PW}b", "afrom ${env}b", ""},
		{"escaped", "a$${PW}$$b", "a${PW}$$b", ""},
		{"file", "file:" + dir + "/lf", "from file", ""},
		{"file of a variable folder", "file:${DIR}/crlf", "from file", ""},
		{"file with two lines", "file:" + dir + "/two", "", "more than one line"},
		{"empty file", "file:" + dir + "/empty", "", "empty"},
		{"long file", "file:" + dir + "/long", "", "more than 64 KiB"},
		{"folder", "file:" + dir, "", "not a regular file"},
		{"no file", "file:" + dir + "/none", "", "no such file"},
		{"relative file", "file:x", "", "absolute path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := secret(tt.in)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil || got.Reveal() != tt.want {
				t.Errorf("got %q, %v; want %q", got.Reveal(), err, tt.want)
			}
		})
	}
}

func TestLoad_File(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		_, err := Load("/nonexistent/usher.yaml")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if want := "config: open /nonexistent/usher.yaml: no such file or directory"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
	t.Run("too long", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usher.yaml")
		if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxFile/2)+"#"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if want := path + ": the file is too long; expected at most 4 MiB"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	})
	t.Run("longest", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usher.yaml")
		if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxFile/2)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	})
}

// TestLoad_Aliases: a few kilobytes can stand for billions of values.
func TestLoad_Aliases(t *testing.T) {
	yaml := "nginx:\n  listeners:\n    - &one\n      address: 127.0.0.1:1\n      proxy_protocol_from: [" +
		strings.Repeat("10.0.0.0/8,", 1000) + "]\n" + strings.Repeat("    - *one\n", 2000)
	_, err := parse("usher.yaml", []byte(yaml))
	if err == nil || !strings.Contains(err.Error(), "too many values; expected at most 1048576, aliases followed") {
		t.Error("not stopped:", strings.SplitN(fmt.Sprint(err), "\n", 2)[0])
	}
}

func TestLoad_ManyFaults(t *testing.T) {
	_, err := parse("usher.yaml", []byte("nginx:\n  listeners:\n"+strings.Repeat("    - {address: x}\n", 5000)))
	faults, ok := errors.AsType[Faults](err)
	if !ok || len(faults) != maxFaults+1 {
		t.Fatalf("%d faults, want %d", len(faults), maxFaults+1)
	}
	if last := faults[maxFaults].String(); last != "usher.yaml: no more than 200 faults are shown" {
		t.Error("last:", last)
	}
}
