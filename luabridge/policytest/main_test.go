package policytest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testLimits.Steps, testLimits.Memory = 500_000, 32<<20 // with the race detector, steps take long
	goleak.VerifyTestMain(m)
}

// policy is what tests of this package test.
const policy = `function nauthilus_call_filter(request)
  local server = usher.sticky(usher.servers())
  if server then usher.select(server) end
end`

// run runs a test file beside that policy.
func run(t *testing.T, text string) Report {
	t.Helper()
	return runBeside(t, policy, text)
}

func runBeside(t *testing.T, policy, text string) Report {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"p.lua": policy, "p_test.lua": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return Run(context.Background(), []string{"p_test.lua"})
}

const world1 = `given {policy = "p.lua", backends = {{host = "192.0.2.11"}, {host = "192.0.2.12", port = 1143}}} `

// printed is the report without how long it took.
func printed(t *testing.T, r Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
