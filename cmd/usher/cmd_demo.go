package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func newDemo(f *flags) *cobra.Command {
	d := demo{program: programName(os.Args[0])}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show usher at work with backends of its own: nothing to install",
		Long: `demo starts three small IMAP backends in this process and usher before them,
lets a stand-in for the mail proxy log three users in by both protocols, shows
where each one went and why, and stays up for you to try, until Ctrl-C.

It needs no root, no configuration, no fixed port and no folder of the system.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d.out, d.errOut, d.json = c.OutOrStdout(), c.ErrOrStderr(), f.json
			if err := d.run(c.Context()); err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&d.once, "once", false, "leave after showing")
	c.Flags().BoolVar(&d.verbose, "verbose", false, "print usher's log to standard error")
	return c
}

// programName is how the lines to try call usher: as it was called itself. What
// `go run` builds has a name that nobody types.
func programName(arg0 string) string {
	if strings.Contains(arg0, "go-build") {
		return "go run ./cmd/usher"
	}
	return arg0
}

// run starts the backends and usher, shows the logins, and, unless it is to
// leave then, waits for ctx to end.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := demoDir()
	if err != nil {
		return err
	}
	defer closing(&err, func() error { return os.RemoveAll(dir) })
	backends, err := startDemoBackends(demoUsers)
	if err != nil {
		return err
	}
	defer closing(&err, backends.close)
	u, err := startDemoUsher(ctx, dir, backends, &demoLog{errOut: d.errOut, verbose: d.verbose})
	if err != nil {
		return err
	}
	defer closing(&err, u.close)

	err = d.show(ctx, u, backends)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted: %w", err)
	case err != nil || d.once:
		return err
	}
	select {
	case <-ctx.Done():
	case <-u.ended: // by itself; its error comes with close
	}
	return nil
}
