package control

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// docs/openapi.json is what the table of calls says: make generate.
func TestGenerated_OpenAPI(t *testing.T) {
	want, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(path, append(want, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want)+"\n", string(got)); diff != "" {
		t.Errorf("docs/openapi.json is not what the API is; make generate\n%s", diff)
	}
}

// Each reference leads somewhere, and the server answers each path.
func TestOpenAPI(t *testing.T) {
	c := serveAPI(t, &fakeService{})
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := c.call(t.Context(), http.MethodGet, "/v1/openapi.json", nil, &doc); err != nil {
		t.Fatal(err)
	}
	raw, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(raw), "#/components/schemas/")[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	n := 0
	for path, ops := range doc.Paths {
		for method := range ops {
			n++
			url := "http://usher" + strings.NewReplacer("{user}", "alice", "{target}", "mail1", "{id}", "M1").Replace(path)
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusNotFound {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}
	if n != len(calls)+1 {
		t.Errorf("%d of %d calls are described", n, len(calls)+1)
	}
}
