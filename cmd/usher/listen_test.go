package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"usher/config"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ush")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func unixAddr(path string) config.Address { return config.Address{Network: "unix", Addr: path} }

func TestListenUnix(t *testing.T) {
	path := filepath.Join(shortDir(t), "sock")

	ln, err := listen(unixAddr(path), socketOptions{mode: 0o640})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v (%v), want 0640", info.Mode(), err)
	}
	if _, err := listen(unixAddr(path), socketOptions{mode: 0o600}); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a live socket was taken: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there after its end: %v", err)
	}

	// A stale one is replaced.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := listen(unixAddr(path), socketOptions{mode: 0o600})
	if err != nil {
		t.Fatalf("a stale socket stopped the start: %v", err)
	}

	// Who ends does not take another's socket away.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := listen(unixAddr(path), socketOptions{mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second one's socket is gone: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenUnixRefusals(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path, want string
		opt              socketOptions
	}{
		{"no folder", filepath.Join(dir, "gone", "sock"), "its folder does not exist", socketOptions{}},
		{"a file is there", file, "something else than a socket", socketOptions{}},
		{"nobody of that name", filepath.Join(dir, "s"), "owner", socketOptions{owner: "no-such-user-here"}},
		{"no group of that name", filepath.Join(dir, "s"), "group", socketOptions{group: "no-such-group-here"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := listen(unixAddr(tc.path), tc.opt); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q (%v)", b, err)
	}
}

// Two servers follow one another on a socket, and no connection is refused.
func TestLease(t *testing.T) {
	ln, err := listen(config.Address{Network: "tcp", Addr: "127.0.0.1:0"}, socketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSlots(2)
	sock := newSocket(ln, s)
	first := newLease(sock)
	ended := make(chan error, 1)
	go func() {
		_, err := first.Accept()
		ended <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the first lease's Accept: %v", err)
	}
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	second := newLease(sock)
	c, err := second.Accept()
	if err != nil {
		t.Fatalf("the second lease's Accept: %v", err)
	}
	if err := errors.Join(c.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	c.Close() // again: its slot is given back once
	if err := sock.Close(); err != nil {
		t.Fatal(err)
	}
	if s.taken != 0 {
		t.Errorf("%d slots are taken, want none", s.taken)
	}
}

// A socket that the service manager opened is found by its name.
func TestListenInherited(t *testing.T) {
	path := filepath.Join(shortDir(t), "n.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	conf := filepath.Join(filepath.Dir(path), "u.yaml")
	yaml := "nginx: {listeners: [{address: \"fd:web\"}]}\ncontrol: {address: \"\", http: \"\"}\nbackend_server_monitoring: {backend_servers: []}\n"
	if err := os.WriteFile(conf, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// LISTEN_PID must be the server's own: a shell sets it and becomes usher.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$0" serve -c "$1"`, usherProgram(t, exe), conf)
	cmd.ExtraFiles = []*os.File{f}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET /auth HTTP/1.0\r\nAuth-Method: plain\r\nAuth-User: a\r\nAuth-Pass: b\r\nAuth-Protocol: imap\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), "[UNAVAILABLE]") {
		t.Errorf("answer %q (%v)\n%s", buf[:n], err, log.String())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("usher: %v\n%s", err, log.String())
	}
}

// usherProgram makes a name by which the test's binary runs as usher
// (testscript.Main looks at it).
func usherProgram(t *testing.T, exe string) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "usher")
	if err := os.Symlink(exe, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// A socket of the service manager that a reload has closed can be opened again:
// of a reload that was refused, or had left it out.
func TestListenInherited_Again(t *testing.T) {
	before := inherited.files
	defer func() { inherited.files = before }()
	inherited.once.Do(func() {})
	unixSocket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	tcpSocket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcpSocket.Close()
	for name, s := range map[string]interface{ File() (*os.File, error) }{"unix": unixSocket, "tcp": tcpSocket.(*net.TCPListener)} {
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		inherited.files = map[string][]*os.File{name: {f}}
		if _, err := listen(config.Address{Network: "fd", Addr: name}, socketOptions{owner: "no-such-user-here", peers: true}); err == nil {
			t.Errorf("%s: opened for nobody", name)
		}
		for range 3 {
			ln, err := listen(config.Address{Network: "fd", Addr: name}, socketOptions{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := listen(config.Address{Network: "fd", Addr: name}, socketOptions{}); err == nil {
				t.Errorf("%s: opened twice at once", name)
			}
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
