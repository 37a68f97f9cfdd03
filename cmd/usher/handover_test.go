package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// keptListener is a socket as a service manager keeps it.
func keptListener(t *testing.T) *unixListener {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return &unixListener{UnixListener: u, kept: path}
}

// pair returns the ends of a connection as usher has them: served and client.
func pair(t *testing.T, ln *unixListener) (served, client net.Conn) {
	t.Helper()
	client, err := net.Dial("unix", ln.kept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	// A connection of the same process that says nothing might be a hand-over.
	if _, err := client.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if served, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	if _, err := served.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return served, client
}

// Connections that are handed over wait for the next one who accepts; what was
// said meanwhile is not lost, and nobody sees an end.
func TestHandOver(t *testing.T) {
	ln := keptListener(t)
	const n = 120 // more than one batch
	clients, served := make([]net.Conn, n), make([]net.Conn, n)
	for i := range n {
		served[i], clients[i] = pair(t, ln)
	}
	var wg sync.WaitGroup
	for i, c := range served {
		wg.Go(func() {
			if err := ln.Keep(fmt.Appendf(nil, "state %d", i), c); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			c.Close()
		})
	}
	wg.Wait()
	for i, c := range clients {
		if _, err := fmt.Fprintf(c, "hello %d\n", i); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	for range n {
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		state, more := c.(*adopted).Kept()
		buf := make([]byte, 100)
		m, err := c.Read(buf)
		if want := strings.Replace(string(state), "state", "hello", 1) + "\n"; err != nil || string(buf[:m]) != want || len(more) != 0 {
			t.Fatalf("%s: read %q (%v), %d more", state, buf[:m], err, len(more))
		}
		if _, err := c.Write(state); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for i, c := range clients {
		got, err := io.ReadAll(c)
		if want := fmt.Sprintf("state %d", i); err != nil || string(got) != want {
			t.Errorf("client %d: %q (%v), want %q", i, got, err, want)
		}
	}
}

// What is too much for the socket's buffer, or for anybody, stays with who has it.
func TestHandOverRefused(t *testing.T) {
	ln := keptListener(t)
	served, client := pair(t, ln)
	if err := ln.Keep(make([]byte, maxHandover+1), served); err == nil {
		t.Error("a state over the limit was handed over")
	}
	if err := ln.Keep(make([]byte, maxHandover), served); err == nil {
		t.Error("a state that no socket holds was handed over")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := ln.Keep([]byte("x"), a); err == nil {
		t.Error("a connection without a descriptor was handed over")
	}
	if _, err := served.Write([]byte("still here\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "still here\n" {
		t.Errorf("%q (%v)", buf[:n], err)
	}
	// The half of it that waits in the queue is nobody's connection.
	done := make(chan error, 1)
	go func() { _, err := ln.Accept(); done <- err }()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "handover") {
		t.Errorf("Accept: %v", err)
	}
	// Nobody listens any more.
	if err := ln.UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ln.Keep([]byte("x"), served); err == nil {
		t.Error("handed over to nobody")
	}
}

// Another client's first bytes are no hand-over, also if they look like one and
// have no descriptors.
func TestHandOverForged(t *testing.T) {
	ln := keptListener(t)
	c, err := net.Dial("unix", ln.kept)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(handoverMagic + "\x00\x00\x00\x02\x01{}")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	other, err := net.Dial("unix", ln.kept)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Write([]byte("VERSION\t1\t2\n")); err != nil {
		t.Fatal(err)
	}
	got, err := ln.Accept()
	if err != nil { // one complaint at most
		got, err = ln.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	buf := make([]byte, 100)
	if n, err := got.Read(buf); err != nil || string(buf[:n]) != "VERSION\t1\t2\n" {
		t.Errorf("%q (%v)", buf[:n], err)
	}
}
