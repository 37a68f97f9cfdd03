package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"usher/control"
)

// pollEvery is how often a command that waits asks how far it is.
const pollEvery = 200 * time.Millisecond

// userFlags are the flags of commands that change something for a user.
type userFlags struct {
	change
	tag   string
	force bool
}

func (u *userFlags) order(user, host string) control.UserOrder {
	return control.UserOrder{User: user, Host: host, Tag: u.tag, Force: u.force, Reason: u.reason, DryRun: u.dryRun, By: caller()}
}

func (u *userFlags) forced(c *cobra.Command) {
	c.Flags().BoolVar(&u.force, "force", false, "go on where sessions can't be seen or ended, or the host is not one for the user")
}

func (u *userFlags) tagged(c *cobra.Command) {
	c.Flags().StringVar(&u.tag, "tag", "", "`TAG` of the assignment (default: of the one that lives)")
}

func newMove(f *flags) *cobra.Command {
	var u userFlags
	var detach bool
	c := u.flags(&cobra.Command{
		Use:   "move USER HOST",
		Short: "Take a user to another host: hold logins, end sessions, switch",
		Long: `Take a user to another host. His logins wait, his sessions are ended at every
Dovecot of dovecot.doveadm, affinity.flush_hook runs, affinity.kick_delay passes;
then he is assigned to the host, and his logins go on there. Whatever fails
leaves him where he is. Ctrl-C leaves the move on its way; usher undo MOVE takes
it back.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			m, err := cl.Move(c.Context(), u.order(args[0], args[1]))
			if err != nil {
				return err
			}
			return followMove(c, f, cl, m, detach)
		},
	})
	u.forced(c)
	u.tagged(c)
	c.Flags().BoolVar(&detach, "detach", false, "do not wait for the end")
	return c
}

func newUndo(f *flags) *cobra.Command {
	var u userFlags
	var detach bool
	c := u.flags(&cobra.Command{
		Use:   "undo MOVE",
		Short: "Take a move back: stop it, or move the user back",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			o := u.order("", "")
			m, err := cl.Undo(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			if m.State == "undone" {
				line := "%s: undone, %s stays on %s"
				if m.DryRun {
					line = "%s would be undone, %s would stay on %s (dry run: nothing is changed)"
				}
				return f.say(c, m, fmt.Sprintf(line, m.ID, m.User, cmp.Or(m.From, "no host")))
			}
			return followMove(c, f, cl, m, detach)
		},
	})
	u.forced(c)
	c.Flags().BoolVar(&detach, "detach", false, "do not wait for the end")
	return c
}

// say prints v as JSON, or else a line.
func (f *flags) say(c *cobra.Command, v any, line string) error {
	if f.json {
		return printJSON(c.OutOrStdout(), v)
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), line)
	return err
}

// followMove shows a move's states until it ends.
func followMove(c *cobra.Command, f *flags, cl *control.Client, m control.Move, detach bool) error {
	out := c.OutOrStdout()
	if m.DryRun {
		return f.say(c, m, fmt.Sprintf("%s would be moved from %s to %s (dry run: nothing is changed)%s", m.Key, cmp.Or(m.From, "no host"), m.To, others(&m)))
	}
	if !f.json {
		if _, err := fmt.Fprintf(out, "%s: %s from %s to %s%s\n", m.ID, m.Key, cmp.Or(m.From, "no host"), m.To, others(&m)); err != nil {
			return err
		}
	}
	shown := ""
	for !m.Done && !detach {
		if m.State != shown && !f.json {
			shown = m.State
			if _, err := fmt.Fprintf(out, "  %s\n", m.State); err != nil {
				return err
			}
		}
		if err := pause(c.Context(), pollEvery); err != nil {
			return fmt.Errorf("%s is on its way: usher undo %s takes it back (%w)", m.ID, m.ID, err)
		}
		next, err := cl.MoveOf(c.Context(), m.ID)
		if err != nil {
			return err
		}
		m = next
	}
	if f.json {
		if err := printJSON(out, m); err != nil {
			return err
		}
	}
	switch {
	case !m.Done:
		return nil
	case !m.OK:
		err := fmt.Errorf("%s %s: %s", m.ID, m.State, m.Error)
		if f.json {
			err = fmt.Errorf("%w%w", err, errShown)
		}
		return err
	case f.json:
		return nil
	}
	_, err := fmt.Fprintf(out, "done: %s is on %s\n", m.User, m.To)
	return err
}

// others tells of users that go along, and what can't be seen.
func others(m *control.Move) string {
	text := ""
	if len(m.Users) > 0 {
		text = fmt.Sprintf(", with the users %s", strings.Join(m.Users[:min(len(m.Users), 10)], " "))
		if n := len(m.Users) - 10; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
	}
	if m.Warning != "" {
		text += "\nwarning: " + m.Warning
	}
	return text
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newPin(f *flags) *cobra.Command {
	var u userFlags
	c := u.flags(&cobra.Command{
		Use:   "pin USER HOST",
		Short: "Let a user go to a host, whatever the policy selects",
		Long: `Let a user go to a host, whatever the policy selects, until usher unpin. A user who
lives elsewhere is moved (see usher move).`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := cl.Pin(c.Context(), u.order(args[0], args[1]))
			switch {
			case err != nil:
				return err
			case a.Move != nil:
				return followMove(c, f, cl, *a.Move, false)
			}
			return f.answer(c, &a)
		},
	})
	u.forced(c)
	u.tagged(c)
	return c
}

func (f *flags) answer(c *cobra.Command, a *control.UserAnswer) error {
	line := a.User + ": " + a.Done
	if a.DryRun {
		line += " (dry run: nothing is changed)"
	}
	return f.say(c, a, line)
}

// newUserOrder makes a command of an order for a user that needs nothing else.
func newUserOrder(f *flags, use, short string, order func(*control.Client, context.Context, control.UserOrder) (control.UserAnswer, error)) *cobra.Command {
	var u userFlags
	return u.flags(&cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := order(cl, c.Context(), u.order(args[0], ""))
			if err != nil {
				return err
			}
			return f.answer(c, &a)
		},
	})
}

func newKick(f *flags) *cobra.Command {
	var u userFlags
	c := u.flags(&cobra.Command{
		Use:   "kick USER",
		Short: "End a user's sessions",
		Long: `End a user's sessions at every Dovecot of dovecot.doveadm that can have some, and
look at their lists until none is left.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := cl.Kick(c.Context(), u.order(args[0], ""))
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(c.OutOrStdout(), a)
			}
			return printKick(c.OutOrStdout(), &a)
		},
	})
	u.tagged(c)
	return c
}

func printKick(w io.Writer, a *control.KickAnswer) error {
	var b strings.Builder
	for _, s := range a.Sessions {
		fmt.Fprintf(&b, "  %s %s from %s at %s\n", s.User, s.Service, cmp.Or(s.RemoteIP, "-"), s.At)
	}
	verb := "ended"
	if a.DryRun {
		verb = "live (dry run: nothing is changed)"
	}
	fmt.Fprintf(&b, "%s: %d sessions %s\n", a.User, len(a.Sessions), verb)
	_, err := io.WriteString(w, b.String())
	return err
}
