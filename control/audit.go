package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	line = append(line, '\n')
	if torn(f) {
		line = append([]byte("\n"), line...)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// torn reports whether the last line has no end: the disk was full.
func torn(f *os.File) bool {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], end-1)
	return err == nil && last[0] != '\n'
}

// Last returns the last records, the newest last, at most most of them. Lines that
// are none, or too long, are left out.
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
	lines := bufio.NewReaderSize(f, maxAuditLine)
	for {
		line, err := lines.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		var r AuditRecord
		if !tooLong && json.Unmarshal(line, &r) == nil {
			if out = append(out, r); len(out) > 2*most {
				out = append(out[:0], out[len(out)-most:]...)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return out[max(0, len(out)-most):], nil
}
