package affinity

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"
)

// copyFolder copies what a kill would leave at this moment, while the process goes
// on.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	for {
		to, before, good := t.TempDir(), folder(t, from), true
		for _, name := range before {
			raw, err := os.ReadFile(filepath.Join(from, name))
			good = good && err == nil
			if err := os.WriteFile(filepath.Join(to, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if good && slices.Equal(before, folder(t, from)) {
			return to
		}
	}
}

// A state is what was true of a key from a time on.
type state struct {
	from time.Time
	Assignment
}

// Whatever happens, and whenever the process is killed: what is older than a second
// is there again, and nothing is there that never was.
func TestSnapshot_Killed(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killed(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func killed(t *testing.T, r *rand.Rand) {
	dir := t.TempDir()
	p, md := open(t, dir), model{}
	for range 12 {
		p.snap.least = int64(1 + r.IntN(30_000)) // many snapshots
		p.start()
		history := map[Key][]state{}
		note := func(k Key) {
			history[k] = append(history[k], state{time.Now(), md[k]})
		}
		for k := range md {
			note(k)
		}
		keys := []int{30, 3000}[r.IntN(2)]
		for range 200 + r.IntN(2000) {
			k := md.step(t, p.m, r, keys)
			for _, tag := range []string{"", "ssd", "tape"} { // a refresh meets them all
				note(Key{tag, k.Name})
			}
			if r.IntN(5) == 0 {
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(1200)) * time.Second)
		}
		when := time.Now()
		dir = copyFolder(t, dir)
		p.kill()

		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		p = open(t, dir)
		if lines := p.said(zapcore.ErrorLevel); len(lines) > 0 {
			t.Fatalf("said: %q", lines)
		}
		got := dump(t, p.m)
		for k, states := range history {
			if !allowed(states, got[k], when) {
				t.Fatalf("%v: %+v (killed at %s, now %s)\nwas %+v", k, got[k], when, time.Now(), states)
			}
		}
		md = model(got)
		for k := range got {
			if len(history[k]) == 0 {
				t.Fatalf("%v came from nowhere", k)
			}
		}
	}
	p.start().end()
}

// allowed reports whether one of the states of a key that stood in the last second
// before the kill is what is there now.
func allowed(states []state, now Assignment, killed time.Time) bool {
	for i, s := range states {
		if i+1 < len(states) && states[i+1].from.Before(killed.Add(-time.Second)) {
			continue
		}
		gone := !s.Expires.After(time.Now().Add(3 * time.Second))
		if now.Host == "" && (s.Host == "" || gone) {
			return true
		}
		if s.Host == now.Host && now.Expires.Sub(s.Expires).Abs() <= 3*time.Second && slices.Equal(s.Users, now.Users) {
			return true
		}
	}
	// What has no state that is so old may be as it was before: not there.
	return now.Host == "" && states[0].from.After(killed.Add(-time.Second))
}
