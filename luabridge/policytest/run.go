package policytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// suffix is what names of test files end with.
const suffix = "_test.lua"

// maxFile bounds a test file's size in bytes.
const maxFile = 4 << 20

// A Report is what became of all tests.
type Report struct {
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Pending int      `json:"pending"`
	TookMS  float64  `json:"took_ms"`
	Tests   []Result `json:"tests"`

	used map[string]bool // files that were read
}

// OK reports whether there were tests, and none failed.
func (r *Report) OK() bool { return r.Failed == 0 && r.Passed+r.Pending > 0 }

// Files are the test files that paths name: a folder stands for all in it whose
// names end with _test.lua. A path that is not there, or is a file of another
// name, is an error.
func Files(paths []string) (files []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if !strings.HasSuffix(path, suffix) {
				return nil, fmt.Errorf("%s is no test file: its name does not end with %s", path, suffix)
			}
			files = append(files, filepath.Clean(path))
			continue
		}
		err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(p, suffix) {
				files = append(files, filepath.Clean(p))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// Run runs the tests of files, in order, until ctx ends.
func Run(ctx context.Context, files []string) Report {
	began := time.Now()
	rep := Report{Tests: []Result{}, used: map[string]bool{}}
	for _, file := range files {
		rep.used[file] = true
		text, err := readFile(file)
		if err != nil {
			rep.Tests = append(rep.Tests, Result{File: file, Name: []string{"(the file itself)"}, Status: "failed", Where: file, Message: err.Error()})
			continue
		}
		rep.Tests = append(rep.Tests, runFile(ctx, file, text, rep.used)...)
	}
	for i := range rep.Tests {
		switch rep.Tests[i].Status {
		case "passed":
			rep.Passed++
		case "failed":
			rep.Failed++
		default:
			rep.Pending++
		}
	}
	rep.TookMS = float64(time.Since(began).Microseconds()) / 1000
	return rep
}

func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("not a regular file")
	case info.Size() > maxFile:
		return "", fmt.Errorf("%d bytes, at most %d", info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}
