package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clients returns n connections as a server has them, and their other ends.
func clients(t testing.TB, n int) (server, client []net.Conn) {
	t.Helper()
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "pair")
			c, err := net.FileConn(f)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if i == 0 {
				server = append(server, c)
			} else {
				client = append(client, c)
			}
		}
	}
	return server, client
}

func listenTest(t *testing.T, path string) *unixListener {
	t.Helper()
	ln, err := listen(unixAddr(path), socketOptions{mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*unixListener)
}

// keepAll hands connections over, each with its number and padding as its state.
func keepAll(t *testing.T, l *unixListener, server []net.Conn, padding int) {
	t.Helper()
	var wg sync.WaitGroup
	for i, c := range server {
		wg.Go(func() {
			state := append(fmt.Appendf(nil, "%04d", i), bytes.Repeat([]byte("x"), padding)...)
			if err := l.Keep(state, c); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			c.Close()
		})
	}
	wg.Wait()
}

// takeAll accepts n connections that were handed over, and looks whose they are.
func takeAll(t *testing.T, accept func() (net.Conn, error), client []net.Conn) {
	t.Helper()
	for range client {
		c, err := accept()
		if err != nil {
			t.Fatal(err)
		}
		state, more := c.(interface{ Kept() ([]byte, []net.Conn) }).Kept()
		var i int
		if _, err := fmt.Sscanf(string(state[:4]), "%04d", &i); err != nil || len(more) > 0 {
			t.Fatalf("state %.10q, %d more (%v)", state, len(more), err)
		}
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(client[i], b); err != nil || string(b) != "hello" {
			t.Errorf("client %d reads %q (%v)", i, b, err)
		}
		c.Close()
	}
}

// Nobody accepts yet: what is handed over waits in the kernel, however much it
// is, and nobody waits for anybody.
func TestHandover_WaitsInTheKernel(t *testing.T) {
	l := listenTest(t, filepath.Join(shortDir(t), "s"))
	defer l.Close()
	server, client := clients(t, 120)
	start := time.Now()
	keepAll(t, l, server, 30<<10)
	if took := time.Since(start); took > handoverTimeout {
		t.Errorf("handing over took %v", took)
	}
	if err := l.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	takeAll(t, l.Accept, client)
}

// Connections that are handed over were counted before: with limits.connections
// reached they are served all the same, and the end does not wait for them.
func TestHandover_OverTheLimit(t *testing.T) {
	l := listenTest(t, filepath.Join(shortDir(t), "s"))
	s := newSlots(2)
	server, client := clients(t, 5)
	keepAll(t, l, server, 0)
	sock := newSocket(l, s)
	le := newLease(sock)
	first, err := le.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := le.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for range client[2:] {
			c, err := le.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
		}
	}()
	silent := make(chan error, 1)
	go func() { silent <- sock.silence() }()
	for range 2 {
		select {
		case <-accepted:
			accepted = nil
		case err := <-silent:
			if err != nil {
				t.Error(err)
			}
			silent = nil
		case <-time.After(5 * time.Second):
			t.Fatalf("connections were served: %v, the end: %v", accepted == nil, silent == nil)
		}
	}
	if err := sock.Close(); err != nil {
		t.Error(err)
	}
}

// Two ushers share a socket for a moment: what another process says comes a
// little later than its connection.
func TestHandover_BothRun(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l := listenTest(t, path)
	defer l.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(shortDir(t), "latehandover")
	if err := os.Symlink(exe, name); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(name, path)
	other.Stderr = os.Stderr
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a, ok := c.(*adopted); !ok || string(a.state) != "state" {
		t.Errorf("accepted %T, want what was handed over", c)
	}
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}

// lateHandover is another process that hands a connection over, not very fast.
func lateHandover() {
	c, err := net.Dial("unix", os.Args[1])
	if err == nil {
		time.Sleep(10 * time.Millisecond)
		_, err = io.WriteString(c, handoverMagic)
	}
	var f *frame
	if err == nil {
		f, err = newFrame([]byte("state"), []net.Conn{c})
	}
	if err == nil {
		err = f.write(c.(*net.UnixConn))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// An usher that stops in the middle of handing over takes nobody with it: what
// came whole is good.
func TestHandover_Stalls(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l := listenTest(t, path)
	defer l.Close()
	other, err := greetNext(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	server, client := clients(t, 2)
	for i, c := range server {
		f, err := newFrame(fmt.Appendf(nil, "%04d", i), []net.Conn{c})
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if i == 1 {
			f.bytes = f.bytes[:7]
		}
		if err := f.write(other); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	takeAll(t, l.Accept, client[:1])
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handing over ends with %v, want the time that is over", err)
	}
}
