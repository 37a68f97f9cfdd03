package servers

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns a new folder /tmp/ush-XXXX that every user may enter, and removes
// it when the test ends. The path is short because a unix socket's has at most
// 108 bytes; t.TempDir's is neither short nor open to nginx's and Dovecot's
// users.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := openDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func openDir() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "ush-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// mkdir makes a folder with exactly that mode, whatever the umask.
func mkdir(t testing.TB, mode os.FileMode, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteFile writes a file that every user may read, and returns its path.
func WriteFile(t testing.TB, text string, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteProgram is WriteFile of a script that every user may run.
func WriteProgram(t testing.TB, text string, elem ...string) string {
	t.Helper()
	path := WriteFile(t, text, elem...)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Root is the folder of go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// Deploy returns the path of a file below deploy/, which must exist.
func Deploy(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "deploy", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// copyDeploy copies a file below deploy/, as it stands, to where every user may
// read it: the checkout may be private.
func copyDeploy(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(Deploy(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return WriteFile(t, string(text), Dir(t), filepath.Base(name))
}
