// Command usher tells mail proxies where to take each user.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"usher/config"
	"usher/control"
)

// Exit statuses.
const (
	exitRefused = 1 // refused, not found, a fault
	exitUsage   = 2
	exitNobody  = 3 // no usher answers at the socket
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	f := &flags{}
	root := newRoot(f)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if f.json && !errors.Is(err, errShown) {
		fault := struct {
			Error string `json:"error"`
		}{err.Error()}
		if err := printJSON(os.Stdout, fault); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	stop()
	os.Exit(exitStatus(err))
}

// errShown is wrapped by errors whose JSON has been printed.
var errShown = errors.New("")

// A usageError is a command line that can't be understood.
type usageError struct{ error }

func exitStatus(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrNoUsher):
		return exitNobody
	}
	return exitRefused
}

// flags are those of every command.
type flags struct {
	config string
	socket string
	json   bool
}

func newRoot(f *flags) *cobra.Command {
	root := &cobra.Command{
		Use:   "usher",
		Short: "Tells mail proxies where to take each user",
		Long: `usher tells mail proxies where to take each user. It speaks the Dovecot auth
protocol and nginx's mail auth_http, asks a Lua policy, and answers with the
backend's host and port.

Try it without any set-up:  usher demo`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	p := root.PersistentFlags()
	p.StringVarP(&f.config, "config", "c", "", "configuration `FILE` (default "+config.DefaultPath+")")
	p.StringVar(&f.socket, "socket", "", "`ADDR` of a running usher's control socket, unix:/PATH (default: as configured)")
	p.BoolVar(&f.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(f), newDemo(f), newCheck(f), newRoute(f), newTest(f), newStatus(f), newBackend(f),
		newMap(f), newMove(f), newUndo(f), newPin(f),
		newUserOrder(f, "unpin USER", "Let the policy decide on a user again", (*control.Client).Unpin),
		newUserOrder(f, "hold USER", "Let a user's logins wait", (*control.Client).Hold),
		newUserOrder(f, "release USER", "End a hold", (*control.Client).Release),
		newKick(f), newFlush(f), newWhy(f), newDump(f), newNodes(f), newImportDirector(f), newReload(f), newConfig(f), newVersion(f))
	for _, c := range root.Commands() {
		strictArgs(c)
	}
	root.Args = func(_ *cobra.Command, a []string) error {
		if len(a) > 0 {
			return usageError{fmt.Errorf("unknown command %q\nsee: usher --help", a[0])}
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return root
}

// strictArgs makes a wrong number of arguments a usageError, in c and in what is
// under it.
func strictArgs(c *cobra.Command) {
	args := c.Args
	c.Args = func(c *cobra.Command, a []string) error {
		if err := args(c, a); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, c.UseLine())}
		}
		return nil
	}
	for _, sub := range c.Commands() {
		strictArgs(sub)
	}
}

// path is the configuration's file.
func (f *flags) path() string {
	if f.config == "" {
		return config.DefaultPath
	}
	return f.config
}

// client reaches the running usher: at --socket, else where the configuration
// says, else where it is by default.
func (f *flags) client() (*control.Client, error) {
	addr := config.Default().Control.Address
	if f.socket != "" {
		var err error
		if addr, err = config.ParseAddress(f.socket); err != nil || addr.Network != "unix" {
			return nil, usageError{fmt.Errorf("--socket %q: expected unix:/PATH", f.socket)}
		}
		return control.NewClient(addr.Addr), nil
	}
	_, err := os.Stat(f.path())
	if f.config != "" || err == nil {
		cfg, err := config.Load(f.path())
		if err != nil {
			return nil, err
		}
		addr = cfg.Control.Address
	}
	if addr.Network != "unix" {
		return nil, usageError{fmt.Errorf("control.address is %q: name the socket with --socket unix:/PATH", addr)}
	}
	return control.NewClient(addr.Addr), nil
}
