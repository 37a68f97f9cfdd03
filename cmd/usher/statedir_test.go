package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMayWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		dir:                             true,
		filepath.Join(dir, "a", "b"):    true, // usher makes it
		filepath.Join(dir, "file", "a"): false,
	} {
		if err := mayWrite(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
