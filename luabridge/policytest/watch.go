package policytest

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is for how long nothing must change before the tests run again: editors
// write a file in several steps.
const quiet = 100 * time.Millisecond

// Watch runs the tests of paths, tells done, and does so again whenever a file
// in their folders, or beside a script that they use, changes, until ctx ends.
func Watch(ctx context.Context, paths []string, done func(Report, error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		files, err := Files(paths)
		var rep Report
		if err == nil {
			rep = Run(ctx, files)
		}
		if ctx.Err() != nil {
			return nil
		}
		// What is gone by now is no reason to stop.
		for _, dir := range folders(paths, rep.used) {
			_ = w.Add(dir)
		}
		done(rep, err)
		if !changed(ctx, w) {
			return nil
		}
	}
}

// folders are those to be watched.
func folders(paths []string, used map[string]bool) (dirs []string) {
	for file := range used {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
	}
	return dirs
}

// changed waits for a change and the quiet after it. It returns false when ctx
// ended.
func changed(ctx context.Context, w *fsnotify.Watcher) bool {
	var after <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case e, ok := <-w.Events:
			if !ok {
				return false
			}
			if e.Op != fsnotify.Chmod && matters(filepath.Base(e.Name)) {
				after = time.After(quiet)
			}
		case _, ok := <-w.Errors:
			if !ok {
				return false
			}
			after = time.After(quiet) // events were lost: look again
		case <-after:
			return true
		}
	}
}

// matters reports whether a file of that name is Lua, or may be a folder.
func matters(name string) bool {
	return !strings.HasPrefix(name, ".") && (filepath.Ext(name) == ".lua" || filepath.Ext(name) == "")
}
