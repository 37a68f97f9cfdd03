package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

// A logLine is what the demo reads of a line of usher's log.
type logLine struct {
	Level   string `json:"level"`
	Msg     string `json:"msg"`
	Adapter string `json:"adapter"`
	User    string `json:"user"`
	Backend string `json:"backend"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
}

// A demoLog takes usher's log, JSON lines, and keeps the last decision for each
// of the demo's users and adapters: why somebody went where he went is told by
// the log, not by the wire. Errors are printed, other lines only if verbose.
type demoLog struct {
	errOut  io.Writer
	verbose bool

	mu   sync.Mutex
	last map[[2]string]logLine // by adapter and user
}

// Write implements io.Writer. It is given whole lines.
func (l *demoLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for raw := range bytes.Lines(p) {
		var line logLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return 0, fmt.Errorf("log line: %w", err)
		}
		if l.verbose || !slices.Contains([]string{"debug", "info", "warn"}, line.Level) {
			if _, err := l.errOut.Write(raw); err != nil {
				return 0, err
			}
		}
		if line.Msg == "decision" && slices.ContainsFunc(demoUsers, func(u demoUser) bool { return u.name == line.User }) {
			if l.last == nil {
				l.last = map[[2]string]logLine{}
			}
			l.last[[2]string{line.Adapter, line.User}] = line
		}
	}
	return len(p), nil
}

// take returns the last decision for user by adapter, once.
func (l *demoLog) take(adapter, user string) (logLine, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{adapter, user}
	line, ok := l.last[key]
	delete(l.last, key)
	return line, ok
}
