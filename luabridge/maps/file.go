package maps

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// A stamp is a file as it was at one moment: nil when there was none.
type stamp struct{ info os.FileInfo }

func look(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

// same reports whether a file has not changed between two looks.
func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size() && os.SameFile(s.info, o.info)
}

var errChanged = errors.New("changed while it was read")

// read reads and parses a file, and says which it was.
func read(path string) (stamp, *Table, error) {
	before := look(path)
	data, err := content(path)
	if err != nil {
		return before, nil, err
	}
	if !look(path).same(before) {
		return before, nil, fmt.Errorf("%s: %w", path, errChanged)
	}
	t, err := Parse(path, data)
	return before, t, err
}

// content reads a regular file: others may never end.
func content(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case info.Size() > MaxFile:
		return nil, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), MaxFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errChanged
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
