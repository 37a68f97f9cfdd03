package affinity

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// flushEvery is how old the last changes are at most that a kill loses, beside
	// the time that the write takes.
	flushEvery = 400 * time.Millisecond
	// retryEvery is how long after a failure it is tried again.
	retryEvery = 10 * time.Second
	// leastJournal is how long journals get before a snapshot replaces them, in
	// bytes. They may be as long as the snapshot that they follow.
	leastJournal = 64 << 20
	// lockWait is how long OpenSnapshot waits for a process that is ending.
	lockWait = 3 * time.Second
	lockLook = 50 * time.Millisecond // between two looks at the lock
	// stepped is how far the clock has to move, beside the time that goes by, to
	// have been set.
	stepped = time.Second
)

// A Snapshot keeps a Memory's assignments in files, so that the next process
// finds them: a snapshot of all, and journals of what changed since. Nothing on a
// login's way waits for the disk. Files are snapshot-N and journal-N: journal-N
// follows snapshot-N, and a snapshot makes all files of lower numbers needless.
//
// One process at a time writes to a folder, the one that holds its file "lock"
// (flock(2)), which the kernel opens when that process ends, however it does. The
// process that follows reads what is there, and serves; once it gets the lock it
// takes what the other wrote until its end, where that is newer, and begins to
// write itself.
type Snapshot struct {
	dir     string
	m       *Memory
	log     *zap.Logger
	process uint64
	wall    func() time.Time // the clock that may be set
	least   int64            // leastJournal
	most    int64            // maxPending

	lock    *os.File          // nil: another process has it
	damaged map[string]string // paths of files, and what they will be called
	taking  sync.Mutex        // held while a snapshot is taken

	mu      sync.Mutex
	journal journal
	said    []string  // what fails, since it last worked
	retry   time.Time // no snapshot before
}

// OpenSnapshot loads what is kept in dir, which it makes if it is missing, into
// m. A file that is damaged, or of another version, counts as far as it is good; a
// log line says so, and the next snapshot sets it aside. What can't be read at all
// is an error. What can't be written to is read, and tried again by Run. Run keeps what changes from then on.
func OpenSnapshot(dir string, m *Memory, log *zap.Logger) (*Snapshot, error) {
	var process [8]byte
	_, _ = rand.Read(process[:]) // never fails
	s := &Snapshot{
		dir: dir, m: m, log: log, process: binary.LittleEndian.Uint64(process[:]),
		wall: m.opt.Now, least: leastJournal, most: maxPending, damaged: map[string]string{},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("assignments: %w", err)
	}
	held, err := s.tryLock()
	for until := time.Now().Add(lockWait); err == nil && !held && time.Now().Before(until); {
		time.Sleep(lockLook)
		held, err = s.tryLock()
	}
	switch {
	case err != nil: // the disk takes nothing, and yet may be read
		s.say(notKept, err)
	case !held:
		log.Warn("assignments: another process keeps them in this folder: those of this one are kept once it has ended", zap.String("folder", dir))
	}
	if err := s.load(false); err != nil {
		return nil, errors.Join(fmt.Errorf("assignments: %w", err), s.unlock())
	}
	s.gather()
	return s, nil
}

// gather has what changes from now on gathered.
func (s *Snapshot) gather() {
	s.journal.to = &pending{most: s.most}
	s.m.gather(s.journal.to)
}

// tryLock takes the folder's lock, if nobody has it.
func (s *Snapshot) tryLock() (held bool, err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
		s.lock = f
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, f.Close()
	default:
		return false, errors.Join(fmt.Errorf("flock %s: %w", f.Name(), err), f.Close())
	}
}

func (s *Snapshot) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Run writes what changes until ctx ends. Call it once.
func (s *Snapshot) Run(ctx context.Context) {
	var snapshots sync.WaitGroup
	defer snapshots.Wait()
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for s.lock == nil {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.takeOver()
		}
	}
	for {
		if s.flush() && s.taking.TryLock() {
			snapshots.Go(func() {
				defer s.taking.Unlock()
				s.snapshot(ctx)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// takeOver loads what another process wrote to its end, if it has ended.
func (s *Snapshot) takeOver() {
	held, err := s.tryLock()
	if held {
		if err = s.load(true); err != nil {
			err = errors.Join(err, s.unlock())
			s.lock = nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.say(notKept, err)
	} else if s.journal.to.lost.Load() { // the snapshot has it
		s.gather()
	}
}

// snapshot replaces all that is kept by a snapshot.
func (s *Snapshot) snapshot(ctx context.Context) {
	size, err := s.take(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &s.journal
	switch {
	case ctx.Err() != nil: // it is for the next process to do
	case err != nil:
		if len(s.said) == 0 {
			s.say("no snapshot of assignments can be written: the journals grow; trying on", err)
		}
		s.retry, j.limit = time.Now().Add(retryEvery), 0
	default:
		j.limit = max(s.least, size)
		if len(s.said) > 0 && j.to != nil {
			s.said = nil
			s.log.Info("assignments are kept on disk again", zap.String("folder", s.dir))
		}
	}
}

// fail ends the writing until another snapshot is taken. The caller holds mu.
func (s *Snapshot) fail(err error) {
	s.m.gather(nil)
	s.say(notKept, errors.Join(err, s.journal.close(false)))
	s.retry = time.Now().Add(retryEvery)
}

const notKept = "assignments are not kept on disk: a restart would move users; trying on"

// say says what fails, once. The caller holds mu.
func (s *Snapshot) say(words string, err error) {
	if !slices.Contains(s.said, words) {
		s.said = append(s.said, words)
		s.log.Error(words, zap.String("folder", s.dir), zap.Error(err))
	}
}

// Close writes what is left. Call it when Run has returned and logins have ended.
func (s *Snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock != nil && s.journal.to != nil {
		err = errors.Join(s.write(), s.journal.close(true))
	}
	s.m.gather(nil)
	if err = errors.Join(err, s.unlock()); err != nil {
		return fmt.Errorf("assignments: %w", err)
	}
	return nil
}
