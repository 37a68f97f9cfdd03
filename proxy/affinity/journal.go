package affinity

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// A journal is where changes are written to: one file after the other.
type journal struct {
	to     *pending // nil: nothing is gathered
	number uint64   // of the file
	file   *blockFile

	base int64 // in the head of the last file, of a snapshot too
	head bool  // there is one

	size  int64 // bytes since the last snapshot
	limit int64 // at which there should be another
	part  []byte
}

// close ends the writing, and waits for the disk if sync is true.
func (j *journal) close(sync bool) error {
	j.to = nil
	return j.end(sync)
}

// end closes the file, if there is one. Another one follows.
func (j *journal) end(sync bool) error {
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	j.number++
	return f.close(sync)
}

// flush writes what changed. It reports whether it is time for a snapshot.
func (s *Snapshot) flush() (due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &s.journal
	if j.to != nil {
		if err := s.write(); err != nil {
			s.fail(err)
		}
	}
	return (j.to == nil || j.size >= j.limit) && !time.Now().Before(s.retry)
}

// write writes what the shards gathered. The caller holds mu.
func (s *Snapshot) write() error {
	j := &s.journal
	if err := s.followClock(); err != nil {
		return err
	}
	for i := range s.m.shard {
		sh := &s.m.shard[i]
		sh.mu.Lock()
		var full [][]byte
		full, j.part = sh.out.take(j.part[:0])
		sh.mu.Unlock()
		if err := s.writeChunks(full, j.part); err != nil {
			return err
		}
	}
	if j.to.lost.Load() {
		return errors.New("more changes than the disk takes")
	}
	if j.file == nil {
		return nil
	}
	return j.file.w.Flush()
}

// writeChunks writes what one shard gathered.
func (s *Snapshot) writeChunks(full [][]byte, part []byte) error {
	j := &s.journal
	if len(full) == 0 && len(part) == 0 {
		return nil
	}
	if j.file == nil {
		if err := s.begin(s.base()); err != nil {
			return err
		}
	}
	before := j.file.size
	// All that the chunks name is interned by now.
	if err := j.file.define(s.m); err != nil {
		return err
	}
	for _, b := range full {
		j.to.bytes.Add(-int64(cap(b)))
		if err := j.file.block(b); err != nil {
			return err
		}
	}
	if len(part) > 0 {
		if err := j.file.block(part); err != nil {
			return err
		}
	}
	j.size += j.file.size - before
	return nil
}

// followClock begins another file if the clock was set, so that its head says so.
func (s *Snapshot) followClock() error {
	j, base := &s.journal, s.base()
	if !j.head || max(base-j.base, j.base-base) <= stepped.Milliseconds() {
		return nil
	}
	if err := j.end(false); err != nil {
		return err
	}
	return s.begin(base)
}

// begin makes the next file.
func (s *Snapshot) begin(base int64) (err error) {
	j := &s.journal
	if j.file, err = createBlocks(s.path("journal", j.number), head{s.process, base}); err != nil {
		j.number++
		return err
	}
	j.headed(base)
	return nil
}

// headed notes the base in the head of a new file.
func (j *journal) headed(base int64) { j.base, j.head = base, true }

func (s *Snapshot) path(kind string, number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s-%08d", kind, number))
}

// base is when the Memory's seconds began to count, by the clock as it is set now,
// in Unix milliseconds.
func (s *Snapshot) base() int64 {
	return s.wall().UnixMilli() - s.m.opt.Now().Sub(s.m.start).Milliseconds()
}

// gather has all shards gather what changes, or, with nil, stop.
func (m *Memory) gather(to *pending) {
	for i := range m.shard {
		s := &m.shard[i]
		s.mu.Lock()
		s.out.start(to)
		s.mu.Unlock()
	}
}
