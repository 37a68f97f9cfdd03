package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"usher": main, "latehandover": lateHandover})
}

// TestCLI runs the commands as people do; testdata/*.txtar are the scripts.
func TestCLI(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// A unix path has 107 bytes at most; the work folder's is short enough.
			e.Setenv("USHER_STATE_DIR", filepath.Join(e.WorkDir, "state")) // else tests would share the system's
			e.Setenv("SOCK", "unix:"+filepath.Join(e.WorkDir, "c.sock"))
			return nil
		},
		Condition: func(cond string) (bool, error) { return false, nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// status N CMD…: the command ends with exit status N.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				got := "0"
				if err != nil {
					got = strings.TrimPrefix(err.Error(), "exit status ")
				}
				if got != args[0] {
					ts.Fatalf("exit status %s, want %s", got, args[0])
				}
			},
		},
	})
}

// What deploy/ ships passes `usher check`.
func TestDeployedConfig(t *testing.T) {
	if _, err := check(filepath.Join("..", "..", "deploy", "usher.yaml")); err != nil {
		t.Error(err)
	}
}
