package moves

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"usher/internal/wholefile"
	"usher/proxy/affinity"
)

const (
	// maxFile bounds what is read at start, in bytes.
	maxFile = 64 << 20
	// maxWaiting bounds the moves that have not ended, so that the file has room for
	// them whatever their names and reasons are.
	maxWaiting = 10_000
)

// kept is the file's format.
type kept struct {
	Version int        `json:"version"`
	Moves   []keptMove `json:"moves"`
	Flushes []Flush    `json:"flushes"`
}

// A keptMove has names that are no UTF-8, which JSON can't say, as bytes too.
type keptMove struct {
	Move
	Bytes *keptNames `json:"bytes,omitempty"`
}

type keptNames struct {
	User []byte `json:"user"`
	Tag  []byte `json:"tag"`
	Name []byte `json:"name"`
}

func keep(m Move) keptMove {
	if utf8.ValidString(m.User) && utf8.ValidString(m.Key.Tag) && utf8.ValidString(m.Key.Name) {
		return keptMove{Move: m}
	}
	return keptMove{m, &keptNames{[]byte(m.User), []byte(m.Key.Tag), []byte(m.Key.Name)}}
}

// named gives a move that was read its names.
func (k *keptMove) named() {
	if b := k.Bytes; b != nil {
		k.User, k.Key, k.Bytes = string(b.User), affinity.Key{Tag: string(b.Tag), Name: string(b.Name)}, nil
	}
}

// snapshot is what a restart must know: what is on its way, and what was.
func (e *Engine) snapshot() kept {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]keptMove, 0, len(e.moves))
	for _, m := range e.moves {
		all = append(all, keep(m))
	}
	return kept{1, all, slices.Collect(maps.Values(e.flushes))}
}

// load reads the file, if there is one. Moves begin anew.
func (e *Engine) load() error {
	raw, err := wholefile.Read(e.file.path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("moves: %w", err)
	}
	k, err := parse(raw)
	if err != nil {
		return fmt.Errorf("moves: %s: %w; mend it, or move it away to forget moves on their way", e.file.path, err)
	}
	slices.SortFunc(k.Moves, func(a, b keptMove) int { return a.Changed.Compare(b.Changed) })
	for _, kept := range k.Moves {
		m := kept.Move
		switch {
		case m.State.Ended():
			e.ended = append(e.ended, m.ID)
		default:
			m.State = Queued
			e.byKey[m.Key] = m.ID
		}
		e.moves[m.ID] = m
	}
	for _, f := range k.Flushes {
		if f.State.Ended() {
			e.ended = append(e.ended, f.ID)
		}
		e.flushes[f.ID] = f
	}
	return nil
}

// parse reads the file's text.
func parse(raw []byte) (kept, error) {
	var k kept
	if err := wholefile.Decode(raw, &k); err != nil {
		return k, err
	}
	if k.Version != 1 {
		return k, fmt.Errorf("version %d; expected 1", k.Version)
	}
	keys := map[affinity.Key]bool{}
	for i := range k.Moves {
		m := &k.Moves[i]
		m.named()
		switch {
		case m.ID == "" || m.To == "" || m.Key.Name == "":
			return k, fmt.Errorf("move %.80q lacks id, key or host", m.ID)
		case !slices.Contains([]State{Queued, Kicking, Hooking, Settling, Switching, Done, Failed, Undone}, m.State):
			return k, fmt.Errorf("move %.80q: state %.80q", m.ID, m.State)
		case !m.State.Ended() && keys[m.Key]:
			return k, fmt.Errorf("two moves of %.280q are on their way", m.Key.Name)
		}
		keys[m.Key] = keys[m.Key] || !m.State.Ended()
	}
	for _, f := range k.Flushes {
		switch {
		case f.ID == "":
			return k, fmt.Errorf("flush %q lacks an id", f.ID)
		case !slices.Contains([]State{Queued, Kicking, Done, Failed, Undone}, f.State):
			return k, fmt.Errorf("flush %.80q: state %.80q", f.ID, f.State)
		case f.PerSec < 0:
			return k, fmt.Errorf("flush %.80q: %g users a second", f.ID, f.PerSec)
		}
	}
	return k, nil
}

// A file is written when something changed, some changes at a time.
type file struct {
	path string

	mu      sync.Mutex
	changes int // so far
	written int // of these that the file has
	writing sync.Mutex
}

// touch notes a change.
func (f *file) touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
}

// sync returns when the file has all changes that were noted before.
func (f *file) sync(_ context.Context, snapshot func() kept) error {
	f.mu.Lock()
	need := f.changes
	f.mu.Unlock()
	f.writing.Lock() // who waits here finds the work done by the one before, most often
	defer f.writing.Unlock()
	f.mu.Lock()
	done, upTo := f.written >= need, f.changes
	f.mu.Unlock()
	if done {
		return nil
	}
	raw, err := json.Marshal(snapshot())
	if err == nil {
		err = wholefile.Replace(f.path, append(raw, '\n'))
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.written = upTo
	f.mu.Unlock()
	return nil
}

// run writes changes that nobody waits for, until ctx ends, and once more then.
func (f *file) run(ctx context.Context, snapshot func() kept, log *zap.Logger) {
	t := time.NewTicker(writeEvery)
	defer t.Stop()
	failing := false
	for {
		over := false
		select {
		case <-ctx.Done():
			over = true
		case <-t.C:
		}
		err := f.sync(ctx, snapshot)
		if err != nil && !failing {
			log.Error("moves can't be kept over a restart", zap.Error(err))
		}
		failing = err != nil
		if over {
			return
		}
	}
}
