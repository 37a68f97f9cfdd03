package nginx

import (
	"net/http"
	"strings"
	"testing"

	"usher/proxy"
)

func TestChangeHeaders(t *testing.T) {
	h := http.Header{"Auth-Status": {"OK"}}
	long := strings.Repeat("x", 500)
	dropped := changeHeaders(h, []proxy.HeaderChange{
		{Op: proxy.HeaderSet, Name: "X-A", Value: "1"},
		{Op: proxy.HeaderAdd, Name: "x-a", Value: "2"},
		{Op: proxy.HeaderSet, Name: "Auth-Status", Value: "no"},
		{Op: proxy.HeaderRemove, Name: "Auth-Status"},
		{Op: proxy.HeaderSet, Name: "X-Long", Value: long},
		{Op: proxy.HeaderSet, Name: "X-Longer", Value: long},
		{Op: proxy.HeaderRemove, Name: "X-Long"},
	})
	if dropped != 1 || h.Get("Auth-Status") != "OK" || len(h["X-A"]) != 2 || h.Get("X-Long") != "" || h.Get("X-Longer") != "" {
		t.Errorf("%d dropped, left %v", dropped, h)
	}
}

// Policies see no header that may hold a secret.
func TestParseRequest_Secrets(t *testing.T) {
	h := http.Header{}
	for _, name := range []string{"Auth-Pass", "X-Auth-Key", "Authorization", "Proxy-Authorization", "Cookie"} {
		h.Set(name, "s3cret")
	}
	h.Set("X-Site", "north")
	r, _ := parseRequest(h)
	if len(r.Headers) != 1 {
		t.Errorf("policies see %v", r.Headers)
	}
}
