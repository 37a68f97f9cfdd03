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
func TestServerFields(t *testing.T) {
	L := lua.NewState()
	defer L.Close()
	fields, ok := (&Deps{}).serverMeta(L, &proxy.Server{}).RawGetString("__index").(*lua.LTable)
	if !ok {
		t.Fatal("no table of fields")
	}
	has := map[string]bool{}
	fields.ForEach(func(k, _ lua.LValue) { has[k.String()] = true })
	var said []string
	for _, f := range backendModule.Types[0].Fields {
		said = append(said, f.Name)
	}
	slices.Sort(said)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(has)), said); diff != "" {
		t.Error(diff)
	}
}
