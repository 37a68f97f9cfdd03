package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	for _, text := range []string{"one", "", strings.Repeat("x", 1<<20)} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, 1<<20)
		if err != nil || string(got) != text {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if _, err := Read(path, 1<<20-1); err == nil {
		t.Error("too long, and no error")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// What can't be replaced stays, and leaves nothing beside it.
	if err := os.Mkdir(path+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path+".d", nil); err == nil {
		t.Error("a folder was replaced")
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

// A folder whose names can't be put on the disk: what stood stands, and nothing is
// left beside it.
func TestReplace_NotSynced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	broken := errors.New("broken")
	fails := func(string) error { return broken }
	if err := ReplaceWith(path, []byte("one"), fails); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was not there is: %v", err)
	}
	if err := Replace(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceWith(path, []byte("two"), fails); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if got, err := Read(path, 10); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "line 1: EOF",
		"{\n\"a\": 1":       "line 2: unexpected EOF",
		"{\n\"a\": 1}\n":    "",
		"{\n\"a\":\n\"x\"}": "line 3: json: cannot unmarshal string",
		"{\"b\": 1}":        "line 1: json: unknown field",
		"{}\n\n{}":          "something follows its end",
		"{}\x00":            "something follows its end",
	} {
		var v struct{ A int }
		err := Decode([]byte(text), &v)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
