package affinity

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"
)

// looks is how often the files are looked at anew when one was gone: the process
// that has the lock removes them as it writes others.
const looks = 5

// load reads all files. With merge the Memory has been serving meanwhile.
func (s *Snapshot) load(merge bool) error {
	start := time.Now()
	for look := 1; ; look++ {
		files, err := s.list()
		if err != nil {
			return err
		}
		if err := s.loadFiles(files, merge); errors.Is(err, fs.ErrNotExist) && look < looks {
			continue
		} else if err != nil {
			return err
		}
		if n := len(files); n > 0 {
			s.journal.number = files[n-1].number + 1
		}
		for i := range s.m.shard {
			s.m.sweep(&s.m.shard[i])
		}
		s.log.Info("assignments were loaded", zap.String("folder", s.dir), zap.Int("files", len(files)),
			zap.Int("assignments", s.m.Len()), zap.Duration("took", time.Since(start)))
		return nil
	}
}

// loadFiles reads files in order. Its error is that one is not there any more.
func (s *Snapshot) loadFiles(files []keptFile, merge bool) error {
	bases := map[uint64]int64{} // by process
	for _, f := range files {
		h, err := fileHead(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			bases[h.process] = h.base
		}
	}
	r := &restore{m: s.m, merge: merge}
	for _, f := range files {
		at, err := s.loadFile(f, r, bases)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			return err
		case s.lock == nil: // it is being written
		case errors.Is(err, errTorn) && !f.snapshot:
			s.log.Info("assignments: a journal ends in the middle of a write: its process was killed",
				zap.String("file", f.path), zap.Int64("byte", at))
		default:
			s.damaged[f.path] = f.path + ".damaged-" + s.wall().UTC().Format("20060102T150405Z")
			s.log.Error("assignments: a file is damaged: what stands before that place counts; it is set aside",
				zap.String("file", f.path), zap.Int64("byte", at), zap.Error(err), zap.String("as", s.damaged[f.path]))
		}
	}
	return nil
}

func fileHead(path string) (head, error) {
	f, err := os.Open(path)
	if err != nil {
		return head{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return readHead(f)
}

// loadFile reads one file. With an error it returns the offset of the block that
// is wrong.
func (s *Snapshot) loadFile(file keptFile, to *restore, bases map[uint64]int64) (at int64, err error) {
	f, err := os.Open(file.path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	r := bufio.NewReaderSize(f, 1<<20)
	h, err := readHead(r)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	to.file(ceilSeconds(bases[h.process]-s.base()), info.Size())
	ended, at, err := readBlocks(r, to)
	if err == nil && file.snapshot && !ended {
		err = fmt.Errorf("a snapshot %w", errTorn)
	}
	return headLen + at, err
}

// ceilSeconds rounds milliseconds up.
func ceilSeconds(ms int64) int64 {
	s := ms / 1000
	if ms%1000 > 0 {
		s++
	}
	return s
}
