package modules

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// What a server has and what the documents say that it has is the same.
func TestBackendServer(t *testing.T) {
	L := lua.NewState()
	defer L.Close()
	fields, ok := (&Deps{}).serverMeta(L, &proxy.Server{}).RawGetString("__index").(*lua.LTable)
	if !ok {
		t.Fatal("no table of fields")
	}
	has := map[string]bool{}
	fields.ForEach(func(k, _ lua.LValue) { has[k.String()] = true })
	for _, name := range []string{"weight", "tags", "assigned"} { // of serverFields
		has[name] = true
	}
	var said []string
	for _, f := range backendModule.Types[0].Fields {
		said = append(said, f.Name)
	}
	slices.Sort(said)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(has)), said); diff != "" {
		t.Error(diff)
	}
}

// What a module has and what its table says is the same.
func TestAll(t *testing.T) {
	L := lua.NewState()
	defer L.Close()
	for _, m := range All {
		var has, said []string
		m.Table(L).ForEach(func(k, _ lua.LValue) { has = append(has, k.String()) })
		for _, f := range m.Funcs {
			said = append(said, f.Name)
		}
		for _, v := range m.Values {
			said = append(said, v.Name)
		}
		for _, f := range m.Fields {
			said = append(said, f.Name)
		}
		slices.Sort(has)
		slices.Sort(said)
		if diff := cmp.Diff(has, said); diff != "" {
			t.Errorf("%s\n%s", m.Name, diff)
		}
	}
}
