package affinity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The next process begins while the old one still serves: it knows what is there,
// and takes what the old one writes to its end.
func TestSnapshot_Handover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ctx := t.Context()
		old := open(t, dir).start()
		for _, name := range []string{"early", "moved", "both", "forgotten", "forgotten early"} {
			claim(t, old.m, Key{Name: name}, "", "a")
		}
		if err := old.m.Forget(ctx, Key{Name: "forgotten early"}, "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)

		next := open(t, dir).start()
		if lines := next.said(zapcore.WarnLevel); len(lines) != 1 || !strings.Contains(lines[0], "another process") {
			t.Errorf("said: %q", lines)
		}
		if got := look(t, next.m, Key{Name: "early"}); got != "a" {
			t.Errorf("early is on %q", got)
		}
		claim(t, next.m, Key{Name: "new"}, "", "c")
		claim(t, old.m, Key{Name: "moved"}, "a", "b")
		claim(t, old.m, Key{Name: "both"}, "a", "b")
		if err := old.m.Forget(ctx, Key{Name: "forgotten"}, "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		claim(t, next.m, Key{Name: "both"}, "a", "c")
		claim(t, old.m, Key{Name: "late"}, "", "a")
		if err := old.m.Remember(ctx, Key{Name: "late"}, "session"); err != nil {
			t.Fatal(err)
		}
		old.end()
		time.Sleep(time.Second)

		want := map[string]string{"early": "a", "moved": "b", "both": "c", "forgotten": "", "forgotten early": "", "new": "c", "late": "a"}
		check := func(p *process, when string) {
			t.Helper()
			for name, host := range want {
				if got := look(t, p.m, Key{Name: name}); got != host {
					t.Errorf("%s: %s is on %q, want %q", when, name, got, host)
				}
			}
			if a, _ := p.m.Get(ctx, Key{Name: "late"}); len(a.Users) != 1 {
				t.Errorf("%s: %+v", when, a)
			}
			if lines := p.said(zapcore.ErrorLevel); len(lines) > 0 {
				t.Errorf("%s: said %q", when, lines)
			}
		}
		check(next, "after the old one ended")
		next.kill()
		last := open(t, dir).start()
		check(last, "after the next one was killed")
		last.end()
	})
}

// A disk that can't be written to is said once. Users are served on, and kept
// again when it can.
func TestSnapshot_DiskGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "assignments")
		p := open(t, dir).start()
		claim(t, p.m, Key{Name: "alice"}, "", "a")
		time.Sleep(time.Second)
		away := dir + ".away"
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			claim(t, p.m, Key{Name: nth(i)}, "", "b")
			time.Sleep(time.Second)
			if i == 50 { // what has no file any more must begin one
				p.snap.mu.Lock()
				p.snap.journal.limit = 0
				p.snap.mu.Unlock()
			}
		}
		if lines := p.said(zapcore.ErrorLevel); len(lines) != 1 || !strings.Contains(lines[0], "not kept") {
			t.Fatalf("said: %q", lines)
		}
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryEvery + time.Second)
		claim(t, p.m, Key{Name: "bob"}, "", "c")
		time.Sleep(time.Second)
		if lines := p.said(zapcore.InfoLevel); len(lines) != 1 || !strings.Contains(lines[0], "again") {
			t.Errorf("said: %q", lines)
		}
		p.kill()
		p = open(t, dir)
		if p.m.Len() != 102 {
			t.Errorf("%d are there: %q", p.m.Len(), folder(t, dir))
		}
		p.start().end()
	})
}

// A snapshot that can't be written is said once, and journals go on.
func TestSnapshot_NoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inTheWay := filepath.Join(dir, "snapshot.tmp", "x")
		if err := os.MkdirAll(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		p := open(t, dir).start()
		for i := range 50 {
			claim(t, p.m, Key{Name: nth(i)}, "", "b")
			time.Sleep(time.Second)
		}
		if lines := p.said(zapcore.ErrorLevel); len(lines) != 1 || !strings.Contains(lines[0], "no snapshot") {
			t.Fatalf("said: %q", lines)
		}
		p.kill()
		p = open(t, dir)
		if p.m.Len() != 50 {
			t.Errorf("%d are there: %q", p.m.Len(), folder(t, dir))
		}
		if err := os.RemoveAll(filepath.Dir(inTheWay)); err != nil {
			t.Fatal(err)
		}
		p.start().end()
	})
}

// More than the disk takes is not kept in memory without end.
func TestSnapshot_Overflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := open(t, dir)
		p.snap.most = 4 << 20
		p.snap.gather()
		const n = 200_000
		for i := range n {
			claim(t, p.m, Key{Name: nth(i)}, "", "a")
		}
		if got := p.snap.journal.to.bytes.Load(); got > p.snap.most+shards*chunkSize {
			t.Errorf("%d bytes wait", got)
		}
		p.start()
		time.Sleep(2*retryEvery + time.Second)
		claim(t, p.m, Key{Name: "bob"}, "", "c")
		time.Sleep(time.Second)
		if bad, good := p.said(zapcore.ErrorLevel), p.said(zapcore.InfoLevel); len(bad) != 1 || len(good) != 1 {
			t.Errorf("said %q, then %q", bad, good)
		}
		p.kill()
		p = open(t, dir)
		if p.m.Len() != n+1 {
			t.Errorf("%d of %d are there", p.m.Len(), n+1)
		}
		p.start().end()
	})
}

// A process that is really killed, again and again.
func TestSnapshot_KillNine(t *testing.T) {
	if dir := os.Getenv("AFFINITY_TEST_FOLDER"); dir != "" {
		claimForEver(dir)
		return
	}
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSnapshot_KillNine$")
		cmd.Env = append(os.Environ(), "AFFINITY_TEST_FOLDER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		claimed := map[string]time.Time{}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if len(claimed) == 0 {
				time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
			}
			claimed[lines.Text()] = time.Now()
		}
		killed := time.Now()
		_ = cmd.Wait()

		p := open(t, dir)
		old, lost := 0, 0
		for name, at := range claimed {
			// Twice the second: where all share two cores, one may wait for its turn.
			if killed.Sub(at) < 2*time.Second {
				continue
			}
			if old++; look(t, p.m, Key{Name: name}) != "a" {
				lost++
			}
		}
		if lost > 0 || old == 0 {
			t.Errorf("round %d: %d of %d users that came early are lost", round, lost, old)
		}
		if lines := p.said(zapcore.ErrorLevel); len(lines) > 0 {
			t.Errorf("round %d: said %q", round, lines)
		}
		if err := p.snap.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// claimForEver claims, and prints for whom.
func claimForEver(dir string) {
	m, err := NewMemory(MemoryOptions{Expire: 15 * time.Minute, MaxEntries: 10_000_000})
	if err != nil {
		panic(err)
	}
	s, err := OpenSnapshot(dir, m, zap.NewNop())
	if err != nil {
		panic(err)
	}
	s.least = 100_000
	go s.Run(context.Background())
	for i := 0; ; i++ {
		name := fmt.Sprintf("user%d-%d", os.Getpid(), i)
		if _, err := m.Claim(context.Background(), Key{Name: name}, "", "a"); err != nil {
			panic(err)
		}
		if _, err := fmt.Println(name); err != nil {
			panic(errors.Join(err, s.Close()))
		}
		if i%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// A folder that can't be written to, as after a fault of the disk: what is there
// counts, and once it can be it is kept on.
func TestSnapshot_NoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		old := open(t, dir).start()
		claim(t, old.m, Key{Name: "alice"}, "", "a")
		old.end()
		lock := filepath.Join(dir, "lock")
		if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
			t.Fatal(err)
		}
		next := open(t, dir).start()
		if got := look(t, next.m, Key{Name: "alice"}); got != "a" {
			t.Errorf("alice is on %q", got)
		}
		if lines := next.said(zapcore.ErrorLevel); len(lines) != 1 {
			t.Errorf("said: %q", lines)
		}
		claim(t, next.m, Key{Name: "bob"}, "", "b")
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		next.end()
		last := open(t, dir).start()
		defer last.end()
		for name, want := range map[string]string{"alice": "a", "bob": "b"} {
			if got := look(t, last.m, Key{Name: name}); got != want {
				t.Errorf("%s is on %q", name, got)
			}
		}
	})
}
