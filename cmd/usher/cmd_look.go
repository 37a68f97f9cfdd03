package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"usher/control"
)

func newWhy(f *flags) *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "why ID",
		Short: "Show a decision by the id of its log line, or the last ones of a user",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args)+len(user) == 0 || len(args) == 1 && user != "" {
				return usageError{fmt.Errorf("expected an ID, or --user\nusage: %s", c.UseLine())}
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			found, err := cl.Decisions(c.Context(), id, user)
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(c.OutOrStdout(), found)
			}
			for _, d := range found {
				if err := printDecision(c.OutOrStdout(), &d); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&user, "user", "", "the last decisions for this `USER`")
	return c
}

func printDecision(w io.Writer, d *control.DecisionRecord) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", d.At.Format(time.RFC3339Nano), d.User, d.Outcome)
	if d.Backend != "" {
		fmt.Fprintf(&b, " to %s", d.Backend)
	}
	fmt.Fprintf(&b, ": by %s, reason %s, in %d us\n  %s by %s, client %s, session %s, id %s\n", d.By, d.Reason, d.TookUS, d.Service, d.Adapter, d.RIP, d.Session, d.ID)
	if d.Text != "" {
		fmt.Fprintf(&b, "  the client was told: %s\n", d.Text)
	}
	if d.Error != "" {
		fmt.Fprintf(&b, "  error: %s\n", d.Error)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Custom)) {
		fmt.Fprintf(&b, "  %s: %s\n", name, d.Custom[name])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func newDump(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "dump",
		Short: "Print commands that restore what operators ordered",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			lines, err := cl.Dump(c.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(c.OutOrStdout(), lines)
			}
			for _, l := range lines {
				if _, err := fmt.Fprintln(c.OutOrStdout(), l); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newNodes(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the ushers that share the state",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			nodes, err := cl.Nodes(c.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(c.OutOrStdout(), nodes)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NODE\tVERSION\tSTATE\tUP\tSEEN")
			for _, n := range nodes {
				state := "not ready"
				if n.Ready {
					state = "ready"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s ago\n", n.Name, n.Version, state, ago(time.Since(n.Started)), ago(time.Since(n.Seen)))
			}
			return t.Flush()
		},
	}
}

// printLine prints v as JSON on one line.
func printLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// detached goes on for a moment after ctx's end.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}
