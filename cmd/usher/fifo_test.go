package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/config"
)

func fifoAddress(path string) config.Address { return config.Address{Network: "unix", Addr: path} }

// A FIFO is made as configured, stays when usher ends, and is used again.
func TestListenFIFO(t *testing.T) {
	path := filepath.Join(shortDir(t), "proxy-notify")
	for range 2 {
		ln, err := listenFIFO(fifoAddress(path), socketOptions{mode: 0o662})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeNamedPipe|0o662 {
			t.Fatalf("mode %v (%v), want a pipe with 0662", info.Mode(), err)
		}
		if _, err := listenFIFO(fifoAddress(path), socketOptions{mode: 0o662}); err == nil || !strings.Contains(err.Error(), "another process reads there") {
			t.Errorf("a second reader: %v", err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// Writers come and go: the reader never sees an end.
		for _, want := range []string{"alice\n", "bob\n"} {
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteString(want); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if got := string(buf[:n]); err != nil || got != want {
				t.Errorf("read %q (%v), want %q", got, err, want)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("with no writer: %v, want to wait", err)
		}
		ended := make(chan error)
		go func() {
			_, err := ln.Accept()
			ended <- err
		}()
		if err := errors.Join(ln.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	}
}

func TestListenFIFORefusals(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path, want string
		opt              socketOptions
	}{
		{"no folder", filepath.Join(dir, "gone", "fifo"), "its folder does not exist", socketOptions{}},
		{"a file is there", file, "something else than a FIFO", socketOptions{}},
		{"nobody of that name", filepath.Join(dir, "f"), "owner", socketOptions{owner: "no-such-user-here"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := listenFIFO(fifoAddress(tc.path), tc.opt); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// A FIFO that was handed over, however it was opened, can be polled and has no
// end.
func TestPollable(t *testing.T) {
	for name, flags := range map[string]int{
		"as systemd does": os.O_RDWR | unix.O_NONBLOCK, "blocking": os.O_RDWR, "for reading": os.O_RDONLY | unix.O_NONBLOCK,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			given, err := os.OpenFile(path, flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer given.Close()
			f, err := pollable(given, "fifo")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("with no writer: %v, want to wait", err)
			}
		})
	}
}
