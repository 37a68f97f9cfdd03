package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/test/servers"
)

// Each test that docs/dovecot.md names as the proof of something is there.
func TestDocs_NameTests(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t) // has nothing to do with Dovecot's version
	root := servers.Root(t)
	text, err := os.ReadFile(filepath.Join(root, "docs/dovecot.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		tests.Write(code)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Fatalf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !strings.Contains(tests.String(), "func "+m[1]+"(t *testing.T)") {
			t.Errorf("docs/dovecot.md names %s, and there is no such test", m[1])
		}
	}
}
