package passdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxLine   = 64 << 10 // bytes, the line's end included
	maxFaults = 20       // named of one file
)

// A table is one reading of a passwd-file. It is immutable.
type table struct {
	users map[string]entry
	// typical is a password of the scheme and cost that most users have: what
	// an unknown user is compared with. nil: none is slow.
	typical verifier
}

// parseTable reads a whole file; name is for the faults, all of which come
// back joined, a line each, the first 20 of them named.
func parseTable(name string, r io.Reader) (*table, error) {
	t := &table{users: make(map[string]entry)}
	faults := faults{file: name}
	lines := make(map[string]int) // of users, for duplicates
	costs := make(map[string]int)
	most := 0

	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for scan.Scan() {
		n++
		user, e, skip, err := parseEntry(scan.Text())
		switch {
		case skip:
			continue
		case err != nil:
			faults.add(n, user, err)
			continue
		case lines[user] > 0:
			faults.add(n, user, fmt.Errorf("again, after line %d", lines[user]))
			continue
		}
		lines[user] = n
		t.users[user] = e
		if e.password == nil {
			continue
		}
		cost := e.password.cost()
		costs[cost]++
		if costs[cost] > most {
			most = costs[cost]
			t.typical = e.password
		}
	}
	switch err := scan.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		faults.add(n+1, "", fmt.Errorf("longer than %d bytes", maxLine))
	case err != nil:
		return nil, fmt.Errorf("passwd_file %s: %w", name, err)
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	if t.typical != nil && t.typical.cost() == "" {
		t.typical = nil
	}
	return t, nil
}

// faults collects what is wrong with a file.
type faults struct {
	file string
	list []error
	more int
}

// A fileFault is said of what a file holds, not of how it could be read.
type fileFault struct{ text string }

func (f *fileFault) Error() string { return f.text }

func (f *faults) add(line int, user string, err error) {
	where := fmt.Sprintf("passwd_file %s:%d: ", f.file, line)
	if user != "" {
		where += fmt.Sprintf("user %q: ", user)
	}
	for text := range strings.SplitSeq(err.Error(), "\n") {
		if len(f.list) == maxFaults {
			f.more++
			continue
		}
		f.list = append(f.list, &fileFault{where + text})
	}
}

func (f *faults) err() error {
	if f.more > 0 {
		f.list = append(f.list, &fileFault{fmt.Sprintf("passwd_file %s: and %d more", f.file, f.more)})
		f.more = 0
	}
	return errors.Join(f.list...)
}
