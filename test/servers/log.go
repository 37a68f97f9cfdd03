package servers

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take before a test gives it up. It is
// generous: two cores may be busy with the race detector.
const patience = 20 * time.Second

// A Log collects what a process writes, line by line.
type Log struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	changed chan struct{} // closed and replaced with each new line
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.lines = append(l.lines, string(line))
		l.partial = rest
		if l.changed != nil {
			close(l.changed)
			l.changed = nil
		}
	}
}

// Len is the number of lines so far: where a later Wait may start.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// Lines returns the lines from number from on.
func (l *Log) Lines(from int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[from:])
}

// Wait returns the first line from number from on that match accepts. It fails
// the test when none comes, or done is closed before; what names the line.
func (l *Log) Wait(t testing.TB, done <-chan struct{}, from int, what string, match func(line string) bool) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		fresh := slices.Clone(l.lines[from:])
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()

		if i := slices.IndexFunc(fresh, match); i >= 0 {
			return fresh[i]
		}
		from += len(fresh)
		select {
		case <-changed:
		case <-done:
			if l.Len() == from {
				t.Fatalf("the process ended without logging %s", what)
			}
		case <-deadline.C:
			t.Fatalf("%s is not in the log after %s", what, patience)
		}
	}
}
