package modules

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"usher/proxy"
)

func entries(weights ...int) []*proxy.Entry {
	var es []proxy.Entry
	for i, w := range weights {
		es = append(es, proxy.Entry{Server: &proxy.Server{Protocol: "imap", Host: fmt.Sprint("h", i), Port: 143, Weight: w}, Health: proxy.Up})
	}
	return proxy.NewView(es).Candidates("imap", "", false)
}

// In as many turns as the weights' sum each host has its weight of them, whatever
// the weights, and never is one more than a turn behind or ahead by far.
func TestRotation_Proportion(t *testing.T) {
	for range 200 {
		weights, sum := make([]int, 1+rand.IntN(8)), 0
		for i := range weights {
			weights[i] = rand.IntN(12)
			sum += weights[i]
		}
		var r Rotation
		list, turns := entries(weights...), map[string]int{}
		for n := range 3 * sum {
			turns[r.next("test", "imap", list, false).Host]++
			for i, w := range weights {
				due := float64((n+1)*w) / float64(sum)
				if has := float64(turns[fmt.Sprint("h", i)]); has < due-2 || has > due+2 {
					t.Fatalf("weights %v: after %d turns h%d had %.0f, due %.2f", weights, n+1, i, has, due)
				}
			}
		}
		for i, w := range weights {
			if got := turns[fmt.Sprint("h", i)]; got != 3*w {
				t.Fatalf("weights %v: h%d had %d turns, want %d", weights, i, got, 3*w)
			}
		}
		if sum == 0 && r.next("test", "imap", list, false) != nil {
			t.Fatal("a turn for the weight 0")
		}
	}
}

// A host that comes and goes, and filters that see different hosts, upset nothing:
// everybody gets turns.
func TestRotation_ListsChange(t *testing.T) {
	var r Rotation
	all, turns := entries(100, 100, 100, 100), map[string]int{}
	for i := range 4000 {
		list := all
		if i%2 == 0 {
			list = all[:2]
		}
		turns[r.next("test", "imap", list, false).Host]++
	}
	if d := turns["h0"] - turns["h1"]; d < -5 || d > 5 || turns["h2"] < 450 || turns["h3"] < 450 {
		t.Errorf("turns %v", turns)
	}
}

func TestRotation_Bounds(t *testing.T) {
	var r Rotation
	list := entries(1, 1)
	for i := range 10 * maxRotations {
		r.next("test", fmt.Sprint("service", i), list, false)
	}
	if len(r.turns) != maxRotations {
		t.Errorf("%d rotations are kept, want %d", len(r.turns), maxRotations)
	}
}

func BenchmarkRotation(b *testing.B) {
	var r Rotation
	list := entries(100, 100, 100, 100, 200, 200, 50, 0)
	b.ReportAllocs()
	for b.Loop() {
		r.next("test", "imap", list, false)
	}
}
