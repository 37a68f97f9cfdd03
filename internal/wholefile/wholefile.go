// Package wholefile writes files that are either the one before or the one after.
package wholefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Replace makes data the content of the file at path, mode 0600: a new file beside
// it, on the disk, then in its place. The folder is made if it is missing. After an
// error the old file stands.
func Replace(path string, data []byte) error { return ReplaceWith(path, data, SyncDir) }

// ReplaceWith is Replace with another way to put a folder's names on the disk.
func ReplaceWith(path string, data []byte, syncDir func(dir string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	old := f.Name() + ".old" // a second name for what is there, to put it back
	had := os.Link(path, old) == nil
	if err = os.Rename(f.Name(), path); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	} else if err = syncDir(dir); err != nil {
		if had {
			return errors.Join(err, os.Rename(old, path))
		}
		return errors.Join(err, os.Remove(path))
	}
	if had {
		err = errors.Join(err, os.Remove(old))
	}
	return err
}

// SyncDir puts a folder's names on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read returns the content of the file at path, of at most limit bytes.
func Read(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, err
}

// Decode reads one JSON value without unknown fields, and nothing after it. Its
// errors name the line.
func Decode(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows its end")
	}
	at := dec.InputOffset()
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	case errors.Is(err, io.ErrUnexpectedEOF):
		at = int64(len(data))
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:min(at, int64(len(data)))], []byte("\n")), err)
}
