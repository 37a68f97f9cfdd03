package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"usher/control"
	"usher/monitor"
)

func newBackend(f *flags) *cobra.Command {
	c := &cobra.Command{
		Use:   "backend",
		Short: "Order backends up, down or drained, give them weight, add, remove and check them",
		Long: `Order backends up, down or drained, give them weight, add, remove and check them. An order is for
a host, or with a port for its entries there; the last one counts, and it outlives
restarts. Checks go on meanwhile and change nothing of it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("%s: expected up, down, drain, weight, add, remove or check\nsee: usher backend --help", c.CommandPath())}
		},
	}
	c.AddCommand(
		newBackendState(f, "up", "Take back down and drain: checks alone count"),
		newBackendState(f, "down", "Offer a backend to nobody; its users go elsewhere at their next login"),
		newBackendState(f, "drain", "Let a backend keep its users and take no new ones"),
		newBackendWeight(f), newBackendAdd(f), newBackendRemove(f), newBackendCheck(f),
	)
	return c
}

// A change is the flags of every command that changes something.
type change struct {
	reason string
	dryRun bool
}

func (ch *change) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&ch.reason, "reason", "", "`WHY`, for those who come after")
	c.Flags().BoolVar(&ch.dryRun, "dry-run", false, "say what it would do, and do nothing")
	return c
}

func newBackendState(f *flags, state, short string) *cobra.Command {
	var ch change
	return ch.flags(&cobra.Command{
		Use:   state + " HOST[:PORT]",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return orderBackend(c, f, control.BackendOrder{Target: args[0], State: state}, &ch)
		},
	})
}

func newBackendWeight(f *flags) *cobra.Command {
	var ch change
	return ch.flags(&cobra.Command{
		Use:   "weight HOST WEIGHT",
		Short: "Give a host another share of the new users, 0 to 1000",
		Long: `Give a host another share of the new users, 0 to 1000; 100 is usual. With 0 it
keeps its users and takes no new ones. Weight is the host's: a port is accepted
and changes nothing of that.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > monitor.MaxWeight {
				return usageError{fmt.Errorf("weight %q; expected 0 to %d", args[1], monitor.MaxWeight)}
			}
			return orderBackend(c, f, control.BackendOrder{Target: args[0], Weight: &n}, &ch)
		},
	})
}

func orderBackend(c *cobra.Command, f *flags, o control.BackendOrder, ch *change) error {
	if _, err := monitor.ParseTarget(o.Target); err != nil {
		return usageError{err}
	}
	o.Reason, o.DryRun, o.By = ch.reason, ch.dryRun, caller()
	cl, err := f.client()
	if err != nil {
		return err
	}
	a, err := cl.Order(c.Context(), o)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(c.OutOrStdout(), a)
	}
	return printOrder(c.OutOrStdout(), &o, &a)
}

// caller is who gives an order: behind sudo, the one in front of it. Empty: usher
// asks the kernel.
func caller() string {
	if os.Geteuid() == 0 && os.Getenv("SUDO_USER") != "" {
		return os.Getenv("SUDO_USER")
	}
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

func printOrder(w io.Writer, o *control.BackendOrder, a *control.BackendAnswer) error {
	var b strings.Builder
	verb := cmp.Or(o.State, "weight")
	if o.Weight != nil {
		verb = "weight " + strconv.Itoa(*o.Weight)
	}
	would := ""
	if a.DryRun {
		would = " (dry run: nothing is changed)"
	}
	fmt.Fprintf(&b, "%s: %s%s\n", a.Target, verb, would)
	for _, e := range a.Backends {
		fmt.Fprintf(&b, "  %s %s: check %s, admin %s, weight %d, takes %s\n", e.Protocol, e.Backend, e.Check, e.Admin, e.Weight, takes(&e))
	}
	fmt.Fprintf(&b, "%d users are assigned to the host\n", a.Users)
	for _, s := range a.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// takes says which users a backend takes, and why not all.
func takes(b *control.Backend) string {
	text := map[string]string{"all": "all users", "own": "its own users only", "none": "nobody"}[b.Takes]
	if b.Why != "" {
		text += " (" + b.Why + ")"
	}
	return text
}

func newBackendAdd(f *flags) *cobra.Command {
	var ch change
	var o control.BackendAdd
	var weight int
	c := ch.flags(&cobra.Command{
		Use:   "add HOST[:PORT]",
		Short: "Add a backend to those of the configuration",
		Long: `Add a backend to those of the configuration, for good: a host with the entries of
another one (--like, without it the first host of the tag), or one entry, with
--protocol and a port.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := monitor.ParseTarget(args[0])
			if err != nil {
				return usageError{err}
			}
			if (o.Protocol == "") != (t.Port == 0) {
				return usageError{errors.New("expected --protocol and a port, or neither")}
			}
			o.Host, o.Port, o.Reason, o.By, o.DryRun = t.Host, t.Port, ch.reason, caller(), ch.dryRun
			if c.Flags().Changed("weight") {
				o.Weight = &weight
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := cl.AddBackend(c.Context(), o)
			if err != nil {
				return err
			}
			return f.inventory(c, "added", &a)
		},
	})
	c.Flags().StringVar(&o.Like, "like", "", "`HOST` of the configuration whose entries it has")
	c.Flags().StringVar(&o.Protocol, "protocol", "", "imap, pop3, smtp, lmtp, sieve or http")
	c.Flags().BoolVar(&o.TLS, "tls", false, "TLS on connect")
	c.Flags().BoolVar(&o.StartTLS, "starttls", false, "STARTTLS")
	c.Flags().IntVar(&weight, "weight", 100, "share of the new users, 0 to 1000")
	c.Flags().StringVar(&o.Tag, "tag", "", "`TAG` of the host")
	return c
}

func newBackendRemove(f *flags) *cobra.Command {
	var ch change
	var force bool
	c := ch.flags(&cobra.Command{
		Use:   "remove HOST[:PORT]",
		Short: "Take a backend out, one of the configuration too",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := monitor.ParseTarget(args[0]); err != nil {
				return usageError{err}
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := cl.RemoveBackend(c.Context(), control.BackendRemove{Target: args[0], Force: force, Reason: ch.reason, By: caller(), DryRun: ch.dryRun})
			if err != nil {
				return err
			}
			return f.inventory(c, "removed", &a)
		},
	})
	c.Flags().BoolVar(&force, "force", false, "though users are assigned there: they are placed anew at their next login")
	return c
}

// inventory says what became of an inventory.
func (f *flags) inventory(c *cobra.Command, verb string, a *control.BackendAnswer) error {
	if f.json {
		return printJSON(c.OutOrStdout(), a)
	}
	line := fmt.Sprintf("%s: %s", a.Target, verb)
	if a.DryRun {
		line += " (dry run: nothing is changed)"
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), line); err != nil {
		return err
	}
	for i := range a.Backends {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "  %s %s: weight %d\n", a.Backends[i].Protocol, a.Backends[i].Backend, a.Backends[i].Weight); err != nil {
			return err
		}
	}
	return nil
}

func newBackendCheck(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "check HOST[:PORT]",
		Short: "Check a backend now and show what was said",
		Long: `Check a backend now, as its settings say, and show what was said: C: is usher, S:
is the backend; secrets are starred. The result counts like that of any other
check. Exit status 1 if one failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := monitor.ParseTarget(args[0]); err != nil {
				return usageError{err}
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			reports, err := cl.CheckBackend(c.Context(), args[0])
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if f.json {
				err = printJSON(out, reports)
			} else {
				err = printReports(out, reports)
			}
			for _, r := range reports {
				if !r.OK {
					err = errors.Join(err, fmt.Errorf("%s %s: %s%w", r.Backend.Protocol, r.Backend.Backend, r.Error, errShown))
				}
			}
			return err
		},
	}
}

func printReports(w io.Writer, reports []control.CheckReport) error {
	var b strings.Builder
	for i, r := range reports {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s %s\n", r.Backend.Protocol, r.Backend.Backend)
		for _, l := range r.Lines {
			fmt.Fprintf(&b, "  %s\n", l)
		}
		verdict := "well"
		if !r.OK {
			verdict = "failed: " + r.Error
		}
		fmt.Fprintf(&b, "%s, in %s; it is %s now\n", verdict, time.Duration(r.TookMS*float64(time.Millisecond)).Round(10*time.Microsecond), r.Backend.Check)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
