package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"usher/control"
)

func newStatus(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "status [USER]",
		Short: "Show the state of usher and its backends, or where a user is",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if len(args) == 1 {
				return userStatus(c, cl, args[0], f.json)
			}
			s, err := cl.Status(c.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(out, s)
			}
			return printStatus(out, &s, time.Now())
		},
	}
}

func userStatus(c *cobra.Command, cl *control.Client, user string, asJSON bool) error {
	u, err := cl.User(c.Context(), user)
	if err != nil {
		return err
	}
	// Where the policy would take him now; a refusal there is worth showing.
	a, err := cl.Route(c.Context(), control.RouteQuery{User: user, Protocol: "imap"})
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if asJSON {
		return printJSON(out, struct {
			control.UserStatus
			Policy control.RouteAnswer `json:"policy"`
		}{u, a})
	}
	assigned := u.Assigned
	if assigned == "" {
		assigned = "none"
	}
	if _, err := fmt.Fprintf(out, "assignment of %s: %s\nnow, by imap:\n", u.Key, assigned); err != nil {
		return err
	}
	return printRoute(out, &a)
}

func printStatus(w io.Writer, s *control.Status, now time.Time) error {
	var b strings.Builder
	ready := "ready"
	if !s.Ready {
		ready = "not ready: backends are being checked"
	}
	fmt.Fprintf(&b, "usher %s on %s, up %s, %s\n", s.Version, s.Node, ago(now.Sub(s.Started)), ready)
	fmt.Fprintf(&b, "config %s, loaded %s ago\npolicy %s\nassignments %d\n", s.Config, ago(now.Sub(s.LoadedAt)), strings.Join(s.Policy, ", "), s.Assignments)
	for _, l := range s.Listeners {
		fmt.Fprintf(&b, "listener %s\n", l)
	}
	if len(s.Backends) == 0 {
		b.WriteString("\nno backends are configured (backend_server_monitoring.backend_servers)\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROTOCOL\tBACKEND\tCHECK\tSINCE\tTOOK\tADMIN\tWEIGHT\tTAGS\tLAST ERROR")
	for _, e := range s.Backends {
		since := "-"
		if !e.Since.IsZero() {
			since = ago(now.Sub(e.Since))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f ms\t%s\t%d\t%s\t%s\n", e.Protocol, e.Backend, e.Check, since, e.CheckMS, e.Admin, e.Weight, strings.Join(e.Tags, ","), e.Error)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ago rounds a duration as people say it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 24*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
