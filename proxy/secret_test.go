package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"go.yaml.in/yaml/v3"
)

// A Secret shows nowhere: alone, in a struct, in an unexported field, behind a
// pointer, in a slice or map, by any verb or encoding.
func TestSecretRedacts(t *testing.T) {
	const plain = "hunter2-correct-horse"
	s := NewSecret(plain)
	type holder struct {
		Public  Secret
		private Secret
		Ptr     *Secret
		List    []Secret
		Map     map[string]Secret
	}
	h := holder{s, s, &s, []Secret{s}, map[string]Secret{"k": s}}
	if h.private.Reveal() != plain || s.IsEmpty() {
		t.Fatal("the secret is lost")
	}
	req := &Request{User: "alice", Password: s}
	var shown []string
	for _, v := range []any{s, &s, h, &h, req, *req, Decision{Password: s}, Identity{Password: s}, Server{TestPassword: s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(j), string(y))
	}
	core, logs := observer.New(zap.DebugLevel)
	zap.New(core).Info("x", zap.Any("a", s), zap.Stringer("b", s), zap.Reflect("c", h), zap.Any("d", req))
	for _, e := range logs.All() {
		enc, err := json.Marshal(e.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(enc))
	}
	shown = append(shown, fmt.Errorf("login: %v %w", s, ErrDenied).Error())
	hex := fmt.Sprintf("%x", plain)
	for _, text := range shown {
		if strings.Contains(text, plain) || strings.Contains(strings.ToLower(text), hex) {
			t.Errorf("shown: %s", text)
		}
	}
	if got := fmt.Sprint(s); got != Redacted {
		t.Errorf("prints as %q, want %q", got, Redacted)
	}
	if got := fmt.Sprint(Secret{}); got != "" {
		t.Errorf("the empty secret prints as %q", got)
	}
}
