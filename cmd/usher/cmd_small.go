package main

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"usher/control"
)

func newReload(f *flags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Let a running usher read its configuration and scripts anew",
		Long: `Let a running usher read its configuration and scripts anew, as SIGHUP does. When
anything is wrong nothing changes, and every fault is printed. Each policy is run
once for a probe request, a user who does not exist: one that raises an error
then, though the one that runs does not, counts as wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			err = cl.Reload(c.Context(), force)
			if errors.Is(err, control.ErrNoUsher) || errors.Is(err, control.ErrNotAllowed) {
				return err
			}
			if err != nil {
				return fmt.Errorf("reload refused, the old configuration stands:\n%w", err)
			}
			if f.json {
				return printJSON(c.OutOrStdout(), map[string]bool{"reloaded": true})
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "reloaded")
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take a policy that raises an error for the probe request")
	return cmd
}

func newConfig(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the configuration as it counts, secrets redacted",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f.path())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(c.OutOrStdout(), cfg)
			}
			text, err := cfg.Redacted()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}

func newVersion(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.json {
				return printJSON(c.OutOrStdout(), map[string]string{"version": version()})
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "usher "+version())
			return err
		},
	}
}

// release is set by the linker for releases.
var release = "0.1.0-dev"

// version is the release, with the commit where the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return release + "+" + s.Value[:12]
		}
	}
	return release
}
