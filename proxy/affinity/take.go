package affinity

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// snapshotBlock is about how many bytes of records a snapshot's blocks have.
const snapshotBlock = 32 << 10

// take writes a snapshot, and removes the files that it replaces. It returns its
// size in bytes.
func (s *Snapshot) take(ctx context.Context) (size int64, err error) {
	number, err := s.turn()
	if err != nil {
		return 0, err
	}
	path := s.path("snapshot", number)
	temp := filepath.Join(s.dir, "snapshot.tmp")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	base := s.base()
	f, err := createBlocks(temp, head{s.process, base})
	if err != nil {
		return 0, err
	}
	err = errors.Join(f.writeAll(ctx, s.m), f.close(true))
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(temp))
	}
	if err := syncDir(s.dir); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.journal.headed(base)
	s.mu.Unlock()
	return f.size, s.tidy(number)
}

// turn begins another file of the journal: what changed before it will be in the
// snapshot of the number that turn returns.
func (s *Snapshot) turn() (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &s.journal
	if j.to != nil {
		if err := errors.Join(s.write(), j.end(false)); err != nil {
			s.fail(err)
			return 0, err
		}
	} else {
		s.gather()
	}
	j.size = 0
	return j.number, nil
}

// writeAll writes all live assignments.
func (b *blockFile) writeAll(ctx context.Context, m *Memory) error {
	block := make([]byte, blockHead, 2*snapshotBlock)
	var count uint64
	var err error
	synced := b.size
	block = binary.AppendUvarint(append(block, opSize), uint64(m.Len()))
	write := func() {
		if err = b.define(m); err == nil && len(block) > blockHead {
			err = b.block(block)
		}
		block = block[:blockHead]
		if err == nil && b.size-synced > syncStep {
			err = b.sync()
			synced = b.size
		}
	}
	walked := m.segments(ctx, func(g *segment) bool {
		now := m.now()
		for i := range g.slots {
			e := &g.slots[i]
			if e.key == 0 || e.expires <= now {
				continue
			}
			count++
			tag, name := g.key(e)
			block = appendPut(block, opNew, tag, e.host, e.expires, string(name))
			for _, user := range g.usersOf(e) {
				block = appendUser(block, tag, string(name), user)
				if len(block) > snapshotBlock {
					write()
				}
			}
			if len(block) > snapshotBlock {
				write()
			}
			if err != nil {
				return false
			}
		}
		return true
	})
	if err = errors.Join(err, walked); err != nil {
		return err
	}
	if write(); err != nil {
		return err
	}
	return b.block(binary.AppendUvarint(append(block, opEnd), count))
}

// tidy removes the files that a snapshot of that number replaces. What is damaged
// gets its other name.
func (s *Snapshot) tidy(number uint64) error {
	files, err := s.list()
	for _, f := range files {
		if f.number >= number {
			continue
		}
		if aside := s.damaged[f.path]; aside != "" {
			err = errors.Join(err, os.Rename(f.path, aside))
		} else {
			err = errors.Join(err, os.Remove(f.path))
		}
	}
	return err
}

// A keptFile is one that is read.
type keptFile struct {
	path     string
	snapshot bool
	number   uint64
}

// list returns the files in the order in which they are read.
func (s *Snapshot) list() (files []keptFile, err error) {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		kind, digits, _ := strings.Cut(e.Name(), "-")
		number, nerr := strconv.ParseUint(digits, 10, 62)
		if nerr != nil || kind != "snapshot" && kind != "journal" || !e.Type().IsRegular() {
			continue
		}
		if path := s.path(kind, number); filepath.Base(path) == e.Name() {
			files = append(files, keptFile{path, kind == "snapshot", number})
		}
	}
	slices.SortFunc(files, func(a, b keptFile) int {
		return cmp.Or(cmp.Compare(a.number, b.number), -strings.Compare(a.path, b.path))
	})
	return files, err
}

// syncDir puts a folder's names on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
