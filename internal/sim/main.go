// Sim places users on weighted backends with usher's own code, changes the
// backends, and measures how even the load is and who moves.
//
//	go run ./internal/sim -o docs/balance.md
//
// Its output depends on its flags alone.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	users := flag.Int("users", 1_000_000, "how many users log in")
	to := flag.String("o", "", "file to write; none: standard output")
	flag.Parse()
	text, err := document(*users)
	if err == nil && *to != "" {
		err = os.WriteFile(*to, text, 0o644)
	} else if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}
