package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"usher/control"
	"usher/luabridge/modules"
	"usher/proxy/affinity"
	"usher/proxy/passdb"
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
is one.`,
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
	store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: cfg.Affinity.Expire, MaxEntries: cfg.Affinity.MaxEntries})
	if err != nil {
		return nil, err
	}
	p := parts{
		log: zap.NewNop(), store: store, workers: passdb.NewWorkers(), cache: modules.NewStore(), http: modules.NewTransport(),
		metrics: control.NewMetrics(version(), control.Gauges{Assignments: store.Len}),
	}
	g, err := build(cfg, p, nil)
	if err != nil {
		return cfg.Warnings(), err
	}
	a := &app{parts: p}
	_, err = a.servers(cfg)
	return g.warnings, errors.Join(err, cfg.RequireListener())
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
