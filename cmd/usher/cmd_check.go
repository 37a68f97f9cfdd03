package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"usher/config"
	"usher/luabridge"
	"usher/luabridge/lint"
)

// checked is what `usher check --json` prints.
type checked struct {
	Config   string   `json:"config"`
	OK       bool     `json:"ok"`
	Faults   []string `json:"faults"`
	Warnings []string `json:"warnings"`
}

func newCheck(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check configuration, scripts and password files without starting",
		Long: `Check what serve and reload check: the configuration, the Lua scripts and the
password files. Every fault stands on a line of its own. Exit status 1 if there
is one. Warnings tell besides what looks wrong in the scripts: names that do not
exist, and paths that select nothing.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			res := checked{Config: f.path(), Faults: []string{}, Warnings: []string{}}
			warnings, err := check(f.path())
			res.Warnings = append(res.Warnings, warnings...)
			if res.OK = err == nil; !res.OK {
				res.Faults = strings.Split(err.Error(), "\n")
			}
			out := c.OutOrStdout()
			if f.json {
				if err := printJSON(out, res); err != nil {
					return err
				}
			} else if err := res.print(out); err != nil {
				return err
			}
			if !res.OK {
				return fmt.Errorf("%s: not usable%w", res.Config, errShown)
			}
			return nil
		},
	}
}

// check builds all that serve would, and starts none of it.
func check(path string) (warnings []string, err error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	p, err := openParts(cfg, zap.NewNop())
	if err != nil {
		return cfg.Warnings(), err
	}
	g, err := build(cfg, p, nil)
	if err != nil {
		return cfg.Warnings(), err
	}
	a := &app{parts: p}
	_, err = a.servers(cfg)
	return append(g.warnings, lintScripts(cfg, g.lua)...), errors.Join(err, cfg.RequireListener())
}

// lintScripts says what looks wrong in the scripts that are configured.
func lintScripts(cfg *config.Config, director *luabridge.Director) (warnings []string) {
	c := &cfg.Director
	hidden := func(name string) bool {
		_, set := os.LookupEnv(name)
		return set && !slices.Contains(c.Env, name)
	}
	look := func(path, text, entry string, change func(*lint.Options)) {
		opt := lint.Options{Entry: entry, HostAttributes: c.HostAttributes, Hidden: hidden, Requires: director.HasFile}
		if change != nil {
			change(&opt)
		}
		for _, w := range lint.Script(path, text, opt) {
			warnings = append(warnings, w.String())
		}
	}
	script := func(path, entry string) {
		if s, err := luabridge.ReadScript(path); err == nil { // else it is a fault already
			look(s.Path, s.Text, entry, nil)
		}
	}
	filters, err := readFilters(c)
	if err != nil || c.Script == "" && len(c.Filters) == 0 {
		filters = nil
	}
	for i, f := range filters {
		others := slices.ContainsFunc(filters, func(o luabridge.Filter) bool {
			return o.Name != f.Name && lint.Selects(o.Path, o.Text, c.HostAttributes)
		})
		look(f.Path, f.Text, "nauthilus_call_filter", func(o *lint.Options) {
			o.NoAuth, o.Alone = f.WhenNoAuth, !others && (f.WhenAuthenticated || f.WhenNoAuth)
		})
		if fc := c.Filters; len(fc) > 0 && !fc[i].WhenAuthenticated && !fc[i].WhenUnauthenticated && !fc[i].WhenNoAuth {
			warnings = append(warnings, fmt.Sprintf("director.filters %q: has no when_ flag: it is not asked about look-ups without a password (lmtp, doveadm), as in Nauthilus; expected when_authenticated and when_no_auth", f.Name))
		}
	}
	for _, f := range c.Features {
		script(f.Script, "nauthilus_call_feature")
	}
	for _, path := range c.Init {
		script(path, "nauthilus_run_hook")
	}
	for _, p := range cfg.Passdb {
		if p.Driver == "lua" {
			script(p.Script, "nauthilus_backend_verify_password")
		}
	}
	return warnings
}

func (r *checked) print(w io.Writer) error {
	for _, s := range r.Faults {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	for _, s := range r.Warnings {
		if _, err := fmt.Fprintln(w, "warning: "+s); err != nil {
			return err
		}
	}
	if r.OK {
		_, err := fmt.Fprintln(w, r.Config+": ok")
		return err
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
