package main

import (
	"bytes"
	"flag"
	"math"
	"os"
	"regexp"
	"testing"

	"go.uber.org/goleak"
)

// full: docs/balance.md is compared number by number, which takes as long as make
// sim.
var full = flag.Bool("full", false, "compare docs/balance.md with a million users")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// With live assignments those move who must, and nobody else; without, nobody moves
// between hosts that did not change. Both are what chance allows.
func TestSimulate(t *testing.T) {
	const users = 10_000
	start, _, _, results, err := simulate(users)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(changes(0)) {
		t.Fatalf("%d results of %d changes", len(results), len(changes(0)))
	}
	even := func(name string, b balance) {
		// 100 hosts: the deviation itself deviates by 7 percent.
		if math.Abs(b.deviation/b.chance-1) > 0.3 || math.Abs(b.mean-100) > b.chance || b.min < 100-12*b.chance || b.max > 100+12*b.chance {
			t.Errorf("%s: %+v", name, b)
		}
	}
	even("start", start)
	for _, r := range results {
		even(r.name, r.balance)
		if r.needless != 0 || r.stranded != 0 || r.live != r.must || r.hashedNeedless != 0 {
			t.Errorf("%s: %+v", r.name, r.movement)
		}
		if math.Abs(float64(r.hashed)-r.least) > 5*math.Sqrt(r.least) || r.hashed == 0 {
			t.Errorf("%s: the hash moves %d, the weights make %.0f due", r.name, r.hashed, r.least)
		}
	}
}

// The page is what this program writes: its words and rows, and with -full its
// numbers.
func TestDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/balance.md")
	if err != nil {
		t.Fatal(err)
	}
	if *full {
		if text, err := document(1_000_000); err != nil || !bytes.Equal(text, page) {
			t.Errorf("docs/balance.md is not what make sim writes (%v):\n%s", err, text)
		}
		return
	}
	text, err := document(2_000)
	if err != nil {
		t.Fatal(err)
	}
	numbers := regexp.MustCompile(`[0-9][0-9 .]*(\([0-9.]+ %\))?`)
	if want := numbers.ReplaceAll(text, []byte("#")); !bytes.Equal(numbers.ReplaceAll(page, []byte("#")), want) {
		t.Errorf("docs/balance.md was not written by make sim of now; but for the numbers that gives:\n%s", want)
	}
}
