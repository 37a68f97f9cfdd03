package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"usher/config/importdirector"
)

// imported is what `usher import-director --json` prints.
type imported struct {
	YAML  string   `json:"yaml"`
	Notes []string `json:"notes"`
}

func newImportDirector(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "import-director FILE",
		Short: "Print the usher.yaml that stands for a Dovecot 2.3 director",
		Long: `Read the configuration of a Dovecot 2.3 proxy with a director, as doveconf -n
prints it (- is standard input), and print the matching usher.yaml:

  doveconf -n | usher import-director - > usher.yaml
  usher check -c usher.yaml

Standard error has a line for each setting that has no match or needs your eye.
Exit status 1 if FILE cannot be read or has no director.
docs/migrate-from-director.md goes through all steps.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, data, err := readInput(args[0], c.InOrStdin())
			if err != nil {
				return err
			}
			r, err := importdirector.Import(name, data)
			if err != nil {
				return err
			}
			res := imported{YAML: string(r.YAML), Notes: []string{}}
			for _, n := range r.Notes {
				res.Notes = append(res.Notes, n.String())
			}
			if f.json {
				return printJSON(c.OutOrStdout(), res)
			}
			for _, n := range res.Notes {
				if _, err := fmt.Fprintln(c.ErrOrStderr(), n); err != nil {
					return err
				}
			}
			_, err = c.OutOrStdout().Write(r.YAML)
			return err
		},
	}
}

// readInput returns a file, or standard input for -, and what messages call it.
// It reads one byte more than Import takes, so that Import refuses what is longer.
func readInput(arg string, stdin io.Reader) (name string, data []byte, err error) {
	if arg == "-" {
		data, err = io.ReadAll(io.LimitReader(stdin, importdirector.MaxInput+1))
		return "stdin", data, err
	}
	f, err := os.Open(arg)
	if err != nil {
		return "", nil, err
	}
	data, err = io.ReadAll(io.LimitReader(f, importdirector.MaxInput+1))
	return arg, data, errors.Join(err, f.Close())
}
