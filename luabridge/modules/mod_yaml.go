package modules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.yaml.in/yaml/v3"
)

// yamlModule is yaml, as github.com/vadv/gopher-lua-libs has it.
var yamlModule = Module{
	Name: "yaml",
	Doc:  "YAML. Values are nested 16 deep at most, texts are 64 KiB at most, and 4096 values at most are read or written; what an alias stands for counts each time.",
	Funcs: []Func{
		{Name: "decode", Do: yamlDecode,
			Sig:     `(text: string) -> value: any, err: string?`,
			Doc:     "Makes tables of mappings and sequences; null is nil, times are texts, and yes, no, on and off are booleans. Of several documents the first. nil and a text if it is no YAML.",
			Example: "local yaml = require(\"yaml\")\nlocal value = yaml.decode(\"site: north\\nports: [143, 993]\")\nprint(value.site, value.ports[2]) --> north\t993\nprint((yaml.decode(\"[\"))) --> nil"},
		{Name: "encode", Do: yamlEncode,
			Sig:     `(value: any) -> text: string?, err: string?`,
			Doc:     "A table with the keys 1 to n is a sequence, and so is an empty one; any other a mapping, its keys sorted. nil and a text for functions, userdata, and tables that stand in themselves.",
			Example: "local yaml = require(\"yaml\")\nprint((yaml.encode({1}))) --> - 1"},
	},
}

const maxYAML = 64 << 10 // bytes

func yamlDecode(L *lua.LState) int {
	text := checkText(L, 1, "decode")
	if len(text) > maxYAML {
		return failText(L, fmt.Sprintf("a text of %d bytes, at most %d", len(text), maxYAML))
	}
	// Each of these may begin a node.
	nodes := 1
	for i := range len(text) {
		if strings.IndexByte("[{,:-?!&*\n", text[i]) >= 0 {
			nodes++
		}
	}
	take(L, 20*len(text)+50*nodes, 8<<10+4*len(text)+256*nodes)
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	v := lua.LNil
	if len(document.Content) > 0 {
		d := yamlDecoder{L: L}
		var err error
		if v, err = d.value(document.Content[0], 0); err != nil {
			return failText(L, CallOf(L).Shown(err.Error(), 200))
		}
	}
	L.Push(v)
	return 1
}

type yamlDecoder struct {
	L      *lua.LState
	values int
}

func (d *yamlDecoder) value(n *yaml.Node, depth int) (lua.LValue, error) {
	if d.values++; d.values > maxValues {
		return nil, fmt.Errorf("over %d values", maxValues)
	}
	take(d.L, 10, 64)
	if depth > maxDepth {
		return nil, fmt.Errorf("nested over %d deep", maxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		t := d.L.CreateTable(0, 0)
		take(d.L, 1, 96)
		for _, item := range n.Content {
			v, err := d.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			take(d.L, 1, 32)
			t.Append(v)
		}
		return t, nil
	case yaml.MappingNode:
		t := d.L.CreateTable(0, 1)
		take(d.L, 1, 416)
		return t, d.mapping(t, n, depth)
	}
	return d.scalar(n)
}

// mapping puts the values of n into t. What a merge (<<) brings is put where
// nothing is.
func (d *yamlDecoder) mapping(t *lua.LTable, n *yaml.Node, depth int) error {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() == "!!merge" {
			merged = append(merged, n.Content[i+1])
			continue
		}
		key, err := d.value(n.Content[i], depth+1)
		if err != nil {
			return err
		}
		switch k := key.(type) {
		case lua.LString, lua.LBool:
		case lua.LNumber:
			if k != k {
				return errors.New(".nan is no key")
			}
		default:
			return fmt.Errorf("a %s is no key", key.Type())
		}
		v, err := d.value(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		take(d.L, 2, 220)
		d.L.RawSet(t, key, v)
	}
	for _, m := range merged {
		if err := d.merge(t, m, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (d *yamlDecoder) merge(t *lua.LTable, n *yaml.Node, depth int) error {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	for _, from := range list {
		v, err := d.value(from, depth)
		if err != nil {
			return err
		}
		other, ok := v.(*lua.LTable)
		if !ok {
			return errors.New("a merge needs mappings")
		}
		each(d.L, other, func(k, v lua.LValue) {
			if d.L.RawGet(t, k) == lua.LNil {
				take(d.L, 2, 220)
				d.L.RawSet(t, k, v)
			}
		})
	}
	return nil
}

func (d *yamlDecoder) scalar(n *yaml.Node) (lua.LValue, error) {
	take(d.L, 10+len(n.Value)/8, 2*len(n.Value))
	switch n.ShortTag() {
	case "!!null":
		return lua.LNil, nil
	case "!!bool":
		var v bool
		err := n.Decode(&v)
		return lua.LBool(v), err
	case "!!int", "!!float":
		var v float64
		err := n.Decode(&v)
		return lua.LNumber(v), err
	case "!!binary":
		var v string
		err := n.Decode(&v)
		return lua.LString(v), err
	}
	if n.Style == 0 { // YAML 1.1
		switch n.Value {
		case "yes", "Yes", "YES", "on", "On", "ON":
			return lua.LTrue, nil
		case "no", "No", "NO", "off", "Off", "OFF":
			return lua.LFalse, nil
		}
	}
	return lua.LString(n.Value), nil
}

func yamlEncode(L *lua.LState) int {
	e := yamlEncoder{L: L}
	v, err := e.value(L.CheckAny(1), 0)
	if err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := errors.Join(enc.Encode(v), enc.Close()); err != nil {
		return failText(L, CallOf(L).Shown(err.Error(), 200))
	}
	take(L, out.Len()/64, out.Len())
	L.Push(lua.LString(out.String()))
	return 1
}

type yamlEncoder struct {
	L      *lua.LState
	values int
	bytes  int // of texts
	within [maxDepth + 1]*lua.LTable
}

// value makes what the encoder takes of a Lua value.
func (e *yamlEncoder) value(v lua.LValue, depth int) (any, error) {
	if e.values++; e.values > maxValues {
		return nil, fmt.Errorf("over %d values", maxValues)
	}
	take(e.L, 100, 512)
	switch v := v.(type) {
	case *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		if f := float64(v); f >= -1<<63 && f < 1<<63 && f == float64(int64(f)) {
			return int64(f), nil
		}
		return float64(v), nil
	case lua.LString:
		if e.bytes += len(v); e.bytes > maxYAML {
			return nil, fmt.Errorf("texts of over %d bytes", maxYAML)
		}
		take(e.L, 4*len(v), 8*len(v))
		return string(v), nil
	case *lua.LTable:
		for _, t := range e.within[:depth] {
			if t == v {
				return nil, errors.New("nested table: it stands in itself")
			}
		}
		if depth == maxDepth {
			return nil, fmt.Errorf("nested over %d deep", maxDepth)
		}
		e.within[depth] = v
		return e.table(v, depth)
	}
	return nil, fmt.Errorf("cannot encode values with %s in them", v.Type())
}

func (e *yamlEncoder) table(t *lua.LTable, depth int) (any, error) {
	CallOf(e.L).Fill(e.L, t)
	n := 0
	each(e.L, t, func(_, _ lua.LValue) { n++ })
	if n == t.Len() {
		list := []any{}
		for i := 1; i <= n; i++ {
			v, err := e.value(t.RawGetInt(i), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	var fault error
	m := map[any]any{}
	each(e.L, t, func(k, v lua.LValue) {
		if fault != nil {
			return
		}
		if _, ok := k.(*lua.LTable); ok {
			fault = errors.New("nested table as a key")
			return
		}
		var key, value any
		if key, fault = e.value(k, depth+1); fault != nil {
			return
		}
		if value, fault = e.value(v, depth+1); fault == nil {
			m[key] = value
		}
	})
	return m, fault
}
