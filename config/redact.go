package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"usher/proxy"
)

// Redacted returns the configuration in effect as YAML that Load reads, every
// key in its place, secrets as [redacted].
func (c *Config) Redacted() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(nodeOf(reflect.ValueOf(c).Elem())); err != nil {
		return nil, fmt.Errorf("config: print: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("config: print: %w", err)
	}
	return b.Bytes(), nil
}

// MarshalJSON implements json.Marshaler: the same as Redacted, in JSON.
func (c *Config) MarshalJSON() ([]byte, error) {
	var v any
	if err := nodeOf(reflect.ValueOf(c).Elem()).Decode(&v); err != nil {
		return nil, fmt.Errorf("config: print: %w", err)
	}
	return json.Marshal(v)
}

func nodeOf(v reflect.Value) *yaml.Node {
	switch t := v.Type(); {
	case isSection(t):
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, f := range fields(t) {
			n.Content = append(n.Content, text(f.name), nodeOf(v.Field(f.index)))
		}
		return n
	case isList(t):
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v.Len() == 0 || !isSection(t.Elem()) {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, nodeOf(v.Index(i)))
		}
		return n
	case t.Kind() == reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: textOf(v)}
	case t == reflect.TypeFor[int]():
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: textOf(v)}
	case t == reflect.TypeFor[proxy.Secret]():
		return text(textOf(v))
	}
	return text(strings.ReplaceAll(textOf(v), "${", "$${"))
}

// text is a scalar that is read back as the same text: quoted where it must be.
func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}
