package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/test/servers"
)

// Each test that docs/dovecot.md and docs/failure-modes.md name as the proof of
// something is there, and each row of the latter names one.
func TestDocs_NameTests(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t) // has nothing to do with Dovecot's version
	root := servers.Root(t)
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
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
	test := regexp.MustCompile("`(Test\\w+)`")
	for page, least := range map[string]int{"docs/dovecot.md": 20, "docs/failure-modes.md": 20} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		named := test.FindAllStringSubmatch(string(text), -1)
		if len(named) < least {
			t.Fatalf("%s: %d tests are named", page, len(named))
		}
		for _, m := range named {
			if !strings.Contains(tests.String(), "func "+m[1]+"(t *testing.T)") {
				t.Errorf("%s names %s, and there is no such test", page, m[1])
			}
		}
		for line := range strings.Lines(string(text)) {
			if page == "docs/failure-modes.md" && strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(line, "| what fails") && !test.MatchString(line) {
				t.Errorf("%s: no test in the row %.60s", page, line)
			}
		}
	}
}
