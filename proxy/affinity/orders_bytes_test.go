package affinity

import (
	"path/filepath"
	"strings"
	"testing"
)

// JSON has no name that is no UTF-8: an order for one would come back as another's.
func TestOrderFile_NoUTF8(t *testing.T) {
	o, err := OpenOrderFile(filepath.Join(t.TempDir(), "users.json"))
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"pin":  o.SetPin(t.Context(), "a\xff", Pin{Host: "mail1"}),
		"hold": o.SetHold(t.Context(), "a\xff", Hold{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if held, err := o.Held(t.Context(), "a\xff"); held || err != nil {
		t.Errorf("held %t, %v", held, err)
	}
}

// What the next start would refuse to read is not taken.
func TestOrderFile_TooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.json")
	o, err := OpenOrderFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.most = 1000
	h := Hold{Stamp{By: "root", Reason: strings.Repeat("x", 300)}}
	for _, user := range []string{"a", "b", "c", "d"} {
		err = o.SetHold(t.Context(), user, h)
	}
	if err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Fatal(err)
	}
	if _, err := o.Release(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err = OpenOrderFile(path); err != nil {
		t.Error(err)
	}
}
