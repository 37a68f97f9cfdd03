package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"usher/luabridge/policytest"
)

func newTest(f *flags) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "test PATH…",
		Short: "Run tests of policies (*_test.lua)",
		Long: `Run tests of policies. PATH is a test file, or a folder: all in it whose names end
with _test.lua. A test says what is given (the policy, backends and their health,
assignments, time, maps, answers of Redis, HTTP and DNS), lets users log in, and
says what is expected. No configuration is read, and no network reached.

  given {policy = "by_domain.lua", backends = {{host = "192.0.2.11"}}}
  it("routes alice", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
  end)

All of it: docs/policies.md. Exit status 1 if a test fails or none is found.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := policytest.Files(args)
			if err != nil {
				return usageError{err}
			}
			out := c.OutOrStdout()
			show := func(r policytest.Report) error {
				if f.json {
					return printJSON(out, r)
				}
				return r.Print(out, isTerminal(out))
			}
			if watch {
				return policytest.Watch(c.Context(), args, func(r policytest.Report, err error) {
					if err == nil {
						err = show(r)
					}
					if err == nil && !r.OK() && r.Failed == 0 {
						err = fmt.Errorf("no test found in %s", strings.Join(args, ", "))
					}
					if err != nil {
						fmt.Fprintln(c.ErrOrStderr(), err)
					}
				})
			}
			if len(files) == 0 {
				return fmt.Errorf("no test found in %s: names of test files end with _test.lua", strings.Join(args, ", "))
			}
			r := policytest.Run(c.Context(), files)
			if err := c.Context().Err(); err != nil {
				return err
			}
			if err := show(r); err != nil {
				return err
			}
			switch {
			case r.Failed > 0:
				return fmt.Errorf("%d of %d tests failed%w", r.Failed, len(r.Tests), errShown)
			case !r.OK():
				return fmt.Errorf("no test found in %s%w", strings.Join(files, ", "), errShown)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "run them again whenever a test or a script changes")
	return c
}

// isTerminal reports whether colours are seen there.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
