package affinity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOrderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "users.json")
	o, err := OpenOrderFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	stamp := Stamp{By: "root", At: time.Unix(1e9, 0).UTC(), Reason: "restore"}
	alice := OrderName("Alice@Example.org*admin", "*")
	for _, err := range []error{
		o.SetPin(ctx, alice, Pin{"mail1", stamp}), o.SetPin(ctx, "bob", Pin{"mail2", stamp}), o.SetPin(ctx, "bob", Pin{"mail3", stamp}),
		o.SetHold(ctx, "carol", Hold{stamp}), o.SetHold(ctx, "dave", Hold{stamp}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []bool{true, false} {
		if found, err := o.Unpin(ctx, "bob"); found != want || err != nil {
			t.Errorf("unpin: %t, %v", found, err)
		}
		if found, err := o.Release(ctx, "dave"); found != want || err != nil {
			t.Errorf("release: %t, %v", found, err)
		}
	}
	for range 2 { // the second time after a restart
		if host, err := o.Pin(ctx, "alice@example.org"); host != "mail1" || err != nil {
			t.Errorf("pin %q, %v", host, err)
		}
		if host, _ := o.Pin(ctx, "bob"); host != "" {
			t.Errorf("bob is pinned to %s", host)
		}
		held, err := o.Held(ctx, "carol")
		other, _ := o.Held(ctx, "dave")
		if !held || other || err != nil {
			t.Errorf("carol %t, dave %t, %v", held, other, err)
		}
		pins, holds, err := o.Standing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]Pin{"alice@example.org": {"mail1", stamp}}, pins); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]Hold{"carol": {stamp}}, holds); diff != "" {
			t.Error(diff)
		}
		if o, err = OpenOrderFile(path); err != nil {
			t.Fatal(err)
		}
	}
	// A disk that takes nothing: no order, and what stood stands.
	o.path = filepath.Join(path, "x")
	if err := o.SetPin(ctx, "alice@example.org", Pin{"mail9", stamp}); err == nil || !strings.Contains(err.Error(), "is not taken") {
		t.Errorf("%v", err)
	}
	if host, _ := o.Pin(ctx, "alice@example.org"); host != "mail1" {
		t.Errorf("pin %q", host)
	}
}

func TestOpenOrderFile_Damaged(t *testing.T) {
	for text, want := range map[string]string{
		"{":                                   "line 1: unexpected EOF",
		`{"version":2}`:                       "version 2; expected 1",
		`{"version":1,"pin":{}}`:              `unknown field "pin"`,
		`{"version":1,"pins":{"a":{}}}`:       `pin of "a": host ""`,
		"{\"version\":1,\n\"pins\":{\"a\":1}": "line 2: ",
	} {
		path := filepath.Join(t.TempDir(), "users.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenOrderFile(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzOrders(f *testing.F) {
	f.Add([]byte(`{"version":1,"pins":{"alice":{"host":"mail1","stamp":{"by":"root","at":"2026-01-02T03:04:05Z"}}},"holds":{"bob":{"stamp":{"by":"root","at":"2026-01-02T03:04:05Z"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := parseOrders(raw)
		if err != nil {
			return
		}
		for user, p := range st.Pins {
			if p.Host == "" {
				t.Errorf("%q is pinned to nothing", user)
			}
		}
	})
}
