package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"usher/control"
)

func newStatus(f *flags) *cobra.Command {
	var tag string
	c := &cobra.Command{
		Use:   "status [USER]",
		Short: "Show the state of usher and its backends, or where a user is",
		Long: `Show the state of usher and its backends, or where a user is. Of a backend: what
its checks say and since when; when the last check was and how long it took; what
operators ordered; which users it takes (all, its own, none); how many users are
assigned to its host; and the decisions for it per second, over ten seconds.`,
		Args: cobra.MaximumNArgs(1),
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
			if tag != "" {
				s.Backends = slices.DeleteFunc(s.Backends, func(b control.Backend) bool { return !slices.Contains(b.Tags, tag) })
			}
			if f.json {
				return printJSON(out, s)
			}
			return printStatus(out, &s, time.Now())
		},
	}
	c.Flags().StringVar(&tag, "tag", "", "only backends with this `TAG`")
	return c
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
	if err := printUser(out, &u, time.Now()); err != nil {
		return err
	}
	return printRoute(out, &a)
}

func printUser(w io.Writer, u *control.UserStatus, now time.Time) error {
	var b strings.Builder
	if len(u.Assignments) == 0 {
		fmt.Fprintf(&b, "assignment of %s: none\n", u.Key)
	}
	for _, a := range u.Assignments {
		fmt.Fprintf(&b, "assignment of %s: %s, for another %s", u.Key, a.Host, ago(a.Expires.Sub(now)))
		if a.Tag != "" {
			fmt.Fprintf(&b, ", tag %s", a.Tag)
		}
		if len(a.Users) > 0 {
			fmt.Fprintf(&b, ", users %s", strings.Join(a.Users, " "))
		}
		b.WriteString("\n")
	}
	if u.Pinned != "" {
		fmt.Fprintf(&b, "pinned to %s, %s\n", u.Pinned, by(u.PinnedBy, now))
	}
	if u.HeldBy != nil {
		fmt.Fprintf(&b, "held: logins wait, %s\n", by(u.HeldBy, now))
	}
	if m := u.Move; m != nil {
		fmt.Fprintf(&b, "move %s to %s: %s since %s, %s\n", m.ID, m.To, m.State, ago(now.Sub(m.Changed)), by(&m.By, now))
	}
	b.WriteString("now, by imap:\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func printStatus(w io.Writer, s *control.Status, now time.Time) error {
	var b strings.Builder
	ready := "ready"
	if !s.Ready {
		ready = "not ready: backends are being checked"
	}
	fmt.Fprintf(&b, "usher %s on %s, up %s, %s\n", s.Version, s.Node, ago(now.Sub(s.Started)), ready)
	fmt.Fprintf(&b, "config %s, loaded %s ago\npolicy %s\nassignments %d\n", s.Config, ago(now.Sub(s.LoadedAt)), strings.Join(s.Policy, ", "), s.Assignments)
	if s.Store == "away" {
		b.WriteString("the shared store is AWAY: known users go on, new ones only where the hosts are as all nodes saw them last, orders are refused\n")
	}
	for _, l := range s.Listeners {
		fmt.Fprintf(&b, "listener %s\n", l)
	}
	for _, p := range s.Panics {
		fmt.Fprintf(&b, "PANIC %s for %s: %d of %d backends fail by timeouts or errors of the local network; the last good set is kept\n", p.Protocol, ago(now.Sub(p.Since)), p.Failing, p.Of)
	}
	if len(s.Backends) == 0 {
		b.WriteString("\nno backends (backend_server_monitoring.backend_servers)\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROTOCOL\tBACKEND\tCHECK\tSINCE\tCHECKED\tTOOK\tADMIN\tWEIGHT\tTAKES\tUSERS\tPER S\tTAGS\tLAST ERROR")
	for i := range s.Backends {
		e := &s.Backends[i]
		check := e.Check
		switch {
		case e.Kept:
			check += " (kept)"
		case e.Failing && e.Check == "up":
			check += " (failing)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f ms\t%s\t%d\t%s\t%d\t%.1f\t%s\t%s\n", e.Protocol, e.Backend, check, since(now, e.Since),
			since(now, e.CheckedAt), e.CheckMS, e.Admin, e.Weight, e.Takes, e.Users, e.PerSecond, strings.Join(e.Tags, ","), e.Error)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range notes(s.Backends, now) {
		fmt.Fprintf(&b, "%s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notes tell why backends do not take all users, and who ordered what.
func notes(backends []control.Backend, now time.Time) (lines []string) {
	add := func(line string) {
		if len(lines) == 0 {
			line = "\n" + line
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	for i := range backends {
		e := &backends[i]
		if e.Admin == "up" && e.Check == "up" && e.Why != "" {
			add(fmt.Sprintf("%s %s takes %s", e.Protocol, e.Backend, takes(e)))
		}
		if e.Admin != "up" && e.AdminBy != nil {
			add(fmt.Sprintf("%s %s: %s %s", e.Protocol, e.Backend, e.Admin, by(e.AdminBy, now)))
		}
		if e.WeightBy != nil {
			add(fmt.Sprintf("%s: weight %d %s", e.Host, e.Weight, by(e.WeightBy, now)))
		}
	}
	return lines
}

func by(s *control.Stamp, now time.Time) string {
	text := fmt.Sprintf("ordered by %s %s ago", s.By, ago(now.Sub(s.At)))
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// since is the time that has passed, "-" since never.
func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(now.Sub(t))
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
