package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"usher/proxy"
)

// secretYAML sets every secret that there is; each begins with hunter2.
const secretYAML = `
nginx:
  listeners:
    - {address: "127.0.0.1:9080", shared_secret: hunter2-nginx}
dovecot:
  listeners:
    - {address: "192.0.2.1:9081", allow_from: [192.0.2.0/24, "2001:db8::1"]}
  master: {user: proxy, pass: hunter2-master}
  doveadm:
    - {url: "http://127.0.0.1:8080", api_key: hunter2-key}
    - {url: "tcp:127.0.0.1:8081", password: hunter2-password}
director: {package_path: "/a/$${x}/?.lua"}
affinity: {move_timeout: 90s}
redis: {password: hunter2-redis, sentinel_password: hunter2-sentinel}
control: {tcp: {token: hunter2-token}}
node: "yes"
backend_server_monitoring:
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: 143, test_username: probe, test_password: hunter2-probe, tags: ["1", b]}
`

// TestSecrets_All: secretYAML leaves none out.
func TestSecrets_All(t *testing.T) {
	set := map[string]bool{}
	walk(reflect.ValueOf(load(t, secretYAML)).Elem(), "", func(path string, _ reflect.StructTag, v reflect.Value) {
		if s, ok := v.Interface().(proxy.Secret); ok {
			set[pattern(path)] = set[pattern(path)] || strings.HasPrefix(s.Reveal(), "hunter2-")
		}
	})
	want := map[string]bool{
		"nginx.listeners[].shared_secret": true,
		"dovecot.master.pass":             true,
		"dovecot.doveadm[].api_key":       true,
		"dovecot.doveadm[].password":      true,
		"redis.password":                  true,
		"redis.sentinel_password":         true,
		"control.tcp.token":               true,
		"backend_server_monitoring.backend_servers[].test_password": true,
	}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

func TestSecrets_NeverShown(t *testing.T) {
	c := load(t, secretYAML)
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown[verb] = fmt.Sprintf(verb, c) + fmt.Sprintf(verb, *c)
	}
	for name, marshal := range map[string]func() ([]byte, error){
		"Redacted":    c.Redacted,
		"json":        func() ([]byte, error) { return json.Marshal(c) },
		"json, value": func() ([]byte, error) { return json.Marshal(*c) },
		"yaml":        func() ([]byte, error) { return yaml.Marshal(c) },
	} {
		b, err := marshal()
		if err != nil {
			t.Fatal(name, err)
		}
		shown[name] = string(b)
	}
	shown["warnings"] = strings.Join(c.Warnings(), "\n")

	// The same secrets in a file where all else is wrong, too.
	broken := strings.NewReplacer("address: ", "adress: ", "tcp:127", "tcq:127", "user: proxy", "user: ''", "port: 143", "port: x").Replace(secretYAML)
	_, err := parse("usher.yaml", []byte(broken))
	if err == nil {
		t.Fatal("no fault")
	}
	shown["faults"] = err.Error()
	for name, text := range shown {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s shows a secret:\n%s", name, text)
		}
	}
}

// TestRedacted: what is printed is read back as the same, but for the secrets.
func TestRedacted(t *testing.T) {
	c := load(t, secretYAML)
	printed, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"shared_secret: '[redacted]'\n", "move_timeout: 1m30s\n", "memory: 16MiB\n", `mode: ""` + "\n", "expire: 15m\n",
		`tags: ["1", b]` + "\n", "node: yes\n", "package_path: /a/$${x}/?.lua\n", "weight: 100\n", "token: '[redacted]'\n",
		"allow_from: [192.0.2.0/24, '2001:db8::1/128']\n",
	} {
		if !strings.Contains(string(printed), want) {
			t.Errorf("no %q in:\n%s", want, printed)
		}
	}
	hidden := cmp.Options{cmp.Comparer(func(a, b proxy.Secret) bool { return a.IsEmpty() == b.IsEmpty() }), compare[0], compare[1], compare[3], compare[4]}
	if diff := cmp.Diff(c, load(t, string(printed)), hidden); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestMarshalJSON(t *testing.T) {
	b, err := json.Marshal(load(t, secretYAML))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Director struct {
			Steps   int
			Network bool
			Env     []string
		}
		Affinity struct {
			MoveTimeout string `json:"move_timeout"`
		}
		Redis struct{ Password string }
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if v.Affinity.MoveTimeout != "1m30s" || v.Director.Steps != 200000 || v.Director.Env == nil || v.Redis.Password != proxy.Redacted {
		t.Errorf("got %+v", v)
	}
}
