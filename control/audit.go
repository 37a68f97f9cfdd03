package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// An AuditRecord is one change that somebody ordered.
type AuditRecord struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	Action string    `json:"action"`           // the command, with its arguments
	Result string    `json:"result,omitempty"` // in words
	Error  string    `json:"error,omitempty"`  // why it was refused
}

// maxAuditLine bounds a line that is read back, in bytes.
const maxAuditLine = 64 << 10

// An Audit is a file to which changes are appended, a JSON object a line. It is
// opened for each, so that it can be moved away at any time.
type Audit struct {
	path string
	mu   sync.Mutex
}

// NewAudit makes one of the file at path, which need not exist.
func NewAudit(path string) *Audit { return &Audit{path: path} }

// Add appends a record.
func (a *Audit) Add(r AuditRecord) (err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(a.path), 0o750); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Last returns the last records, the newest last, at most most of them. Lines that
// are none are left out.
func (a *Audit) Last(most int) ([]AuditRecord, error) {
	f, err := os.Open(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return []AuditRecord{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	out := []AuditRecord{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxAuditLine)
	for lines.Scan() {
		var r AuditRecord
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue
		}
		if out = append(out, r); len(out) > 2*most {
			out = append(out[:0], out[len(out)-most:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return out[max(0, len(out)-most):], nil
}
