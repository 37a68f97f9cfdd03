package maps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// MaxMaps is how many files a process may have in use: policies may make names
	// of what clients send.
	MaxMaps = 1000
	maxName = 1024 // bytes
	// Interval is how often files are looked at.
	Interval = time.Second
)

// A Registry has the maps of the process. All methods are safe for concurrent use.
type Registry struct {
	log   *zap.Logger
	given map[string]*Map // instead of files

	mu    sync.RWMutex
	names map[request]*Map // as policies ask
	paths map[string]*Map

	loads sync.WaitGroup
}

// A request is how a policy names a file: from its own folder.
type request struct{ dir, name string }

// New returns a Registry without maps. Run keeps them up to date.
func New(log *zap.Logger) *Registry {
	return &Registry{log: log, names: map[request]*Map{}, paths: map[string]*Map{}}
}

// Given returns a Registry of texts instead of files, by the names that policies
// use. It reads no files.
func Given(texts map[string]string) (*Registry, error) {
	r := New(zap.NewNop())
	r.given = map[string]*Map{}
	for name, text := range texts {
		t, err := Parse(name, []byte(text))
		if err != nil {
			return nil, err
		}
		m := &Map{path: name}
		m.table.Store(t)
		r.given[name] = m
	}
	return r, nil
}

// A Map is a file in use.
type Map struct {
	path  string
	table atomic.Pointer[Table] // nil: never read

	mu      sync.Mutex
	tried   stamp         // the file as it was read last, or could not be
	seen    stamp         // as it was when it was looked at last
	err     error         // of the last try
	loading chan struct{} // closed at its end; nil: not being read
}

// Table is the present content. It is never nil for a map that Open returned.
func (m *Map) Table() *Table { return m.table.Load() }

// Path is the file.
func (m *Map) Path() string { return m.path }

// Loading is the error of a map that is not read yet. Reading it goes on.
type Loading struct {
	Path string
	Done <-chan struct{} // closed at the end
}

// Error implements error.
func (e *Loading) Error() string { return e.Path + ": still being read" }

// ValidName says what is wrong with a file's name, or nil.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("the file's name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the file's name has %d bytes, at most %d", len(name), maxName)
	}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return fmt.Errorf("the file's name has a control byte 0x%02x", name[i])
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("the file's name %q has a part .. in it", name)
		}
	}
	return nil
}

// Open returns the map of a file, relative to dir, and reads it when it is new.
// When ctx ends before that, the error is a *Loading, and the reading goes on. The
// error of a broken file stands until the file changes.
func (r *Registry) Open(ctx context.Context, dir, name string) (*Map, error) {
	if err := ValidName(name); err != nil {
		return nil, err
	}
	if r.given != nil {
		if m := r.given[name]; m != nil {
			return m, nil
		}
		return nil, fmt.Errorf("no map %q is given", name)
	}
	m := r.noted(dir, name)
	if m == nil {
		var err error
		if m, err = r.add(dir, name); err != nil {
			return nil, err
		}
	}
	if m.table.Load() != nil {
		return m, nil
	}
	return m, r.first(ctx, m)
}

func (r *Registry) noted(dir, name string) *Map {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.names[request{dir, name}]
}

// Ready returns what Open would where that neither waits nor fails, or nil.
func (r *Registry) Ready(dir, name string) *Map {
	if r.given != nil {
		return r.given[name]
	}
	if m := r.noted(dir, name); m != nil && m.table.Load() != nil {
		return m
	}
	return nil
}

// add notes a file under the name that a policy has for it. One that is not there
// is not noted.
func (r *Registry) add(dir, name string) (*Map, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, name)
	}
	path = strings.Clone(filepath.Clean(path))
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.paths[path]
	if m == nil {
		if len(r.paths) >= MaxMaps {
			return nil, fmt.Errorf("%s: %d maps are in use, and that is the most", path, MaxMaps)
		}
		m = &Map{path: path}
		r.paths[path] = m
	}
	if len(r.names) < 4*MaxMaps { // one file has names without end: a/./b
		r.names[request{strings.Clone(dir), strings.Clone(name)}] = m
	}
	return m, nil
}

// first reads a map that was not read yet, or waits for whoever does.
func (r *Registry) first(ctx context.Context, m *Map) error {
	m.mu.Lock()
	if m.table.Load() != nil {
		m.mu.Unlock()
		return nil
	}
	if m.loading == nil {
		if now := look(m.path); m.err != nil && now.same(m.tried) {
			defer m.mu.Unlock()
			return m.err
		}
		done := make(chan struct{})
		m.loading = done
		r.loads.Go(func() {
			now, t, err := read(m.path)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.tried, m.seen, m.err, m.loading = now, now, err, nil
			if err == nil {
				r.warn(m, t)
				m.table.Store(t)
			}
			close(done)
		})
	}
	done := m.loading
	m.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return &Loading{m.path, done}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// warn logs what is odd about a table.
func (r *Registry) warn(m *Map, t *Table) {
	if t.Duplicates > 0 {
		r.log.Warn("map: keys that are there twice; the first line counts", zap.String("file", m.path),
			zap.Int("keys", t.Duplicates), zap.Int("line", t.FirstDuplicate))
	}
}

// Run reads files anew that change, until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	defer r.loads.Wait()
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, m := range r.all() {
			if ctx.Err() == nil {
				r.poll(m)
			}
		}
	}
}

func (r *Registry) all() []*Map {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*Map, 0, len(r.paths))
	for _, m := range r.paths {
		list = append(list, m)
	}
	return list
}

// poll reads a file anew if it changed, and then kept still for an Interval:
// whoever writes it in place may be at it. What can't be read leaves the old
// content in use.
func (r *Registry) poll(m *Map) {
	now := look(m.path)
	m.mu.Lock()
	defer m.mu.Unlock()
	still := now.same(m.seen)
	m.seen = now
	if m.loading != nil || !still || now.same(m.tried) {
		return
	}
	was := m.err
	at, t, err := read(m.path)
	if errors.Is(err, errChanged) {
		return
	}
	m.tried, m.err = at, err
	old := "none"
	if m.table.Load() != nil {
		old = "stays"
	}
	switch {
	case err != nil:
		r.log.Error("map: cannot be read", zap.String("file", m.path), zap.Error(err), zap.String("old_content", old))
		return
	case was != nil:
		r.log.Info("map: good again", zap.String("file", m.path), zap.Int("lines", t.Lines()))
	default:
		r.log.Info("map: read anew", zap.String("file", m.path), zap.Int("lines", t.Lines()))
	}
	r.warn(m, t)
	m.table.Store(t)
}
