package control

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// OpenAPI returns the API's description (OpenAPI 3.1), made of the table of calls.
func OpenAPI() (json.RawMessage, error) {
	schemas := map[string]any{}
	paths := map[string]map[string]any{}
	add := func(c call, reply map[string]any) {
		op := map[string]any{
			"summary":    c.text,
			"parameters": parameters(&c),
			"responses": map[string]any{
				"200":     map[string]any{"description": "done", "content": reply},
				"default": map[string]any{"description": "refused (422), not found (404), not allowed (401)", "content": content(reflect.TypeFor[Problem](), schemas)},
			},
		}
		if c.in != nil {
			op["requestBody"] = map[string]any{"content": content(c.in, schemas)}
		}
		if paths[c.path] == nil {
			paths[c.path] = map[string]any{}
		}
		paths[c.path][strings.ToLower(c.method)] = op
	}
	for _, c := range calls {
		add(c, content(c.out, schemas))
	}
	assignment := schema(reflect.TypeFor[Assignment](), schemas)
	add(call{
		method: "GET", path: mapPath, text: "Assignments: a JSON object a line. An error in the middle is a last line with error.",
		query: []queryParam{{"backend", "only those on this host"}, {"tag", "only those with this tag"}},
	}, map[string]any{"application/x-ndjson": map[string]any{"schema": assignment}})
	return json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "usher", "version": "1", "description": "The admin API: HTTP and JSON on usher's control socket, or on control.tcp with its token as bearer or a client certificate."},
		"paths":   paths,
		"components": map[string]any{
			"schemas":         schemas,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
		"security": []any{map[string]any{}, map[string]any{"token": []string{}}},
	}, "", "  ")
}

var placeholders = regexp.MustCompile(`\{(\w+)\}`)

// places says what the placeholders of paths stand for.
var places = map[string]string{"user": "a user's name", "target": "HOST or HOST:PORT", "id": "of a move or a flush"}

func parameters(c *call) []any {
	out := []any{}
	for _, m := range placeholders.FindAllStringSubmatch(c.path, -1) {
		out = append(out, map[string]any{"name": m[1], "in": "path", "required": true, "description": places[m[1]], "schema": map[string]any{"type": "string"}})
	}
	for _, q := range c.query {
		out = append(out, map[string]any{"name": q.name, "in": "query", "description": q.text, "schema": map[string]any{"type": "string"}})
	}
	return out
}

func content(t reflect.Type, schemas map[string]any) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": schema(t, schemas)}}
}

// schema describes a type; structs with a name go to schemas.
func schema(t reflect.Type, schemas map[string]any) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem(), schemas)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schema(t.Elem(), schemas)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schema(t.Elem(), schemas)}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
	default:
		return map[string]any{"type": "integer"}
	}
	if t.Name() == "" {
		return map[string]any{"type": "object"}
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	if schemas[t.Name()] != nil {
		return ref
	}
	properties := map[string]any{}
	schemas[t.Name()] = map[string]any{"type": "object", "properties": properties}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[name] = schema(f.Type, schemas)
	}
	return ref
}
