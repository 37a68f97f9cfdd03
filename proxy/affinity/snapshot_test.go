package affinity

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A process is a Memory that is kept, and its log.
type process struct {
	t    testing.TB
	m    *Memory
	snap *Snapshot
	logs *observer.ObservedLogs
	stop context.CancelFunc
	run  sync.WaitGroup
}

// open begins a process that keeps its assignments in dir. It runs unless told
// otherwise.
func open(t testing.TB, dir string) *process {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	p := &process{t: t, m: newMemory(t, 1_000_000), logs: logs}
	var err error
	if p.snap, err = OpenSnapshot(dir, p.m, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) start() *process {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.run.Go(func() { p.snap.Run(ctx) })
	return p
}

// end ends the process as it should be.
func (p *process) end() {
	p.t.Helper()
	p.stop()
	p.run.Wait()
	if err := p.snap.Close(); err != nil {
		p.t.Error(err)
	}
}

// kill ends it as kill -9 would: what was not written is lost.
func (p *process) kill() {
	p.stop()
	p.run.Wait()
	if f := p.snap.journal.file; f != nil {
		f.f.Close()
	}
	if p.snap.lock != nil {
		p.snap.lock.Close()
	}
}

// said returns the log's lines of a level, without those of info that every start
// has.
func (p *process) said(level zapcore.Level) (lines []string) {
	for _, e := range p.logs.All() {
		if e.Level == level && !strings.Contains(e.Message, "were loaded") {
			lines = append(lines, e.Message)
		}
	}
	return lines
}

func folder(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What there is survives a restart: hosts, tags, users, what was moved and what was
// forgotten.
func TestSnapshot_Restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "assignments")
		p := open(t, dir).start()
		ctx := t.Context()
		for i := range 3000 {
			claim(t, p.m, Key{Name: nth(i)}, "", []string{"a", "b"}[i%2])
		}
		time.Sleep(time.Minute)
		claim(t, p.m, Key{Name: nth(0)}, "a", "c")
		claim(t, p.m, Key{Tag: "ssd", Name: nth(0)}, "", "d")
		for _, user := range []string{"session1", "session2"} {
			if err := p.m.Remember(ctx, Key{Name: nth(1)}, user); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.m.Forget(ctx, Key{Name: nth(2)}, "a"); err != nil {
			t.Fatal(err)
		}
		want := dump(t, p.m)
		p.end()

		for range 3 {
			p = open(t, dir)
			got := dump(t, p.m)
			if len(got) != 3000 || len(got) != len(want) {
				t.Fatalf("%d assignments, %d were there", len(got), len(want))
			}
			for k, w := range want {
				g := got[k]
				if g.Host != w.Host || !slices.Equal(g.Users, w.Users) || g.Expires.Sub(w.Expires).Abs() > 3*time.Second {
					t.Fatalf("%+v, was %+v", g, w)
				}
			}
			if p.m.Assigned("c") != 1 || p.m.Assigned("d") != 1 || p.m.Len() != 3000 {
				t.Errorf("%d on c, %d on d of %d", p.m.Assigned("c"), p.m.Assigned("d"), p.m.Len())
			}
			p.start()
			time.Sleep(time.Second) // a snapshot follows
			p.end()
			if lines := append(p.said(zapcore.WarnLevel), p.said(zapcore.ErrorLevel)...); len(lines) > 0 {
				t.Errorf("said: %q", lines)
			}
		}
		if names := folder(t, dir); len(names) != 2 {
			t.Errorf("one snapshot and the lock expected: %q", names)
		}
		info, err := os.Stat(filepath.Join(dir, folder(t, dir)[1]))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
}

// Time goes on while nobody runs.
func TestSnapshot_Expires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := open(t, dir).start()
		claim(t, p.m, Key{Name: "early"}, "", "a")
		time.Sleep(10 * time.Minute)
		claim(t, p.m, Key{Name: "late"}, "", "a")
		p.end()
		time.Sleep(6 * time.Minute)
		p = open(t, dir)
		if early, late := look(t, p.m, Key{Name: "early"}), look(t, p.m, Key{Name: "late"}); early != "" || late != "a" || p.m.Len() != 1 {
			t.Errorf("after 16 and 6 min: %q and %q, %d entries", early, late, p.m.Len())
		}
		time.Sleep(9*time.Minute + 3*time.Second)
		if late := look(t, p.m, Key{Name: "late"}); late != "" {
			t.Errorf("after 15 min: %q", late)
		}
		p.start().end()
	})
}

// A clock that is set neither ends assignments nor makes them live longer.
func TestSnapshot_ClockSet(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		for _, when := range []string{"while users come", "while nobody comes", "while nobody runs"} {
			t.Run(by.String()+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if by > 0 && when == "while nobody runs" {
						t.Skip("nothing tells it from time that went by")
					}
					dir := t.TempDir()
					set := func() time.Time { return time.Now().Add(by) }
					p := open(t, dir).start()
					claim(t, p.m, Key{Name: "alice"}, "", "a")
					time.Sleep(5 * time.Second)
					if when != "while nobody runs" {
						p.snap.mu.Lock()
						p.snap.wall = set
						p.snap.mu.Unlock()
					}
					if when == "while users come" {
						claim(t, p.m, Key{Name: "bob"}, "", "b")
					}
					time.Sleep(5 * time.Second)
					p.kill()

					p = open(t, t.TempDir()) // for its Memory
					p.snap.dir, p.snap.wall = dir, set
					if err := p.snap.load(false); err != nil {
						t.Fatal(err)
					}
					if got := look(t, p.m, Key{Name: "alice"}); got != "a" {
						t.Errorf("alice is on %q", got)
					}
					if got := look(t, p.m, Key{Name: "bob"}); when == "while users come" && got != "b" {
						t.Errorf("bob is on %q", got)
					}
					time.Sleep(15*time.Minute + 2*time.Second)
					if got := dump(t, p.m); len(got) > 0 {
						t.Errorf("still there: %v", got)
					}
					p.start().end()
				})
			})
		}
	}
}
