package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"usher/control"
)

func newFlush(f *flags) *cobra.Command {
	var ch change
	var rate string
	var force, forget, detach bool
	c := ch.flags(&cobra.Command{
		Use:   "flush HOST|all",
		Short: "Move all users of a host to where the hash sends them",
		Long: `Move all users of a host, or of all hosts, to where the hash sends them now: off a
host that is drained or down, back to where weights say. Each is moved as by usher
move. Ctrl-C stops it after the moves on their way.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			perSec, err := strconv.ParseFloat(strings.TrimSuffix(rate, "/s"), 64)
			if rate != "" && (err != nil || perSec <= 0) {
				return usageError{fmt.Errorf("--rate %q; expected users per second, such as 50/s", rate)}
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			fl, err := cl.Flush(c.Context(), control.FlushOrder{
				Host: args[0], Rate: perSec, Forget: forget, Force: force, Reason: ch.reason, By: caller(), DryRun: ch.dryRun,
			})
			if err != nil {
				return err
			}
			return followFlush(c, f, cl, fl, forget, detach)
		},
	})
	c.Flags().StringVar(&rate, "rate", "", "users per `SECOND` at most, such as 50/s (default: as fast as moves go)")
	c.Flags().BoolVar(&force, "force", false, "go on where sessions can't be seen or ended")
	c.Flags().BoolVar(&forget, "forget", false, "forget the assignments instead: sessions live on, and users are placed anew at their next login")
	c.Flags().BoolVar(&detach, "detach", false, "do not wait for the end")
	return c
}

func followFlush(c *cobra.Command, f *flags, cl *control.Client, fl control.Flush, forget, detach bool) error {
	if fl.DryRun || forget {
		verb := "would be moved"
		switch {
		case forget && fl.DryRun:
			verb = "would be forgotten"
		case forget:
			verb = "are forgotten"
		}
		return f.say(c, fl, fmt.Sprintf("%s: %d of %d users %s, %d stay", fl.Host, fl.Moved, fl.Total, verb, fl.Stays))
	}
	bar := newBar(c.ErrOrStderr(), f.json)
	for !fl.Done && !detach {
		bar.show(fl.Moved+fl.Failed, fl.Total-fl.Stays)
		if err := pause(c.Context(), pollEvery); err != nil {
			bar.end()
			// The command is over; the order to stop must still get through.
			ctx, cancel := detached(c.Context())
			defer cancel()
			if stopped, err := cl.StopFlush(ctx, fl.ID, control.UserOrder{By: caller(), Reason: "interrupted"}); err == nil {
				return fmt.Errorf("stopped: %d of %d users moved", stopped.Moved, stopped.Total-stopped.Stays)
			}
			return err
		}
		next, err := cl.FlushOf(c.Context(), fl.ID)
		if err != nil && c.Context().Err() == nil {
			bar.end()
			return err
		}
		if err == nil {
			fl = next
		}
	}
	bar.end()
	err := f.say(c, fl, fmt.Sprintf("%s %s: %d users moved, %d stay, %d failed", fl.ID, fl.State, fl.Moved, fl.Stays, fl.Failed))
	if err == nil && fl.Done && (fl.State != "done" || fl.Failed > 0) {
		return fmt.Errorf("%s: the last that failed: %s", fl.ID, fl.Error)
	}
	return err
}

// A bar shows progress on a terminal, and nothing elsewhere.
type bar struct {
	w  io.Writer
	on bool
}

func newBar(w io.Writer, quiet bool) *bar {
	file, ok := w.(*os.File)
	if !ok || quiet {
		return &bar{}
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return &bar{w: w, on: err == nil}
}

const barWidth = 40

func (b *bar) show(done, total int) {
	if !b.on || total <= 0 {
		return
	}
	full := min(barWidth, barWidth*done/total)
	fmt.Fprintf(b.w, "\r[%s%s] %d/%d ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total)
}

func (b *bar) end() {
	if b.on {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func newMap(f *flags) *cobra.Command {
	var host, tag string
	c := &cobra.Command{
		Use:   "map",
		Short: "List assignments: who lives where",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if f.json {
				return cl.Map(c.Context(), host, tag, func(a control.Assignment) bool { return printLine(out, a) == nil })
			}
			t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "KEY\tHOST\tEXPIRES IN\tTAG\tUSERS")
			n := 0
			err = cl.Map(c.Context(), host, tag, func(a control.Assignment) bool {
				if n++; n%1000 == 0 && t.Flush() != nil { // columns are aligned by the thousand
					return false
				}
				_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", a.Key, a.Host, ago(time.Until(a.Expires)), a.Tag, strings.Join(a.Users, " "))
				return err == nil
			})
			if flushed := t.Flush(); err == nil {
				err = flushed
			}
			return err
		},
	}
	c.Flags().StringVar(&host, "backend", "", "only those on `HOST`")
	c.Flags().StringVar(&tag, "tag", "", "only those with this `TAG`")
	return c
}
