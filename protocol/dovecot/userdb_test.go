package dovecot

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Time is up while the upstream answers: each look-up is answered once.
func TestUserdb_GraceEndsUnderLoad(t *testing.T) {
	for range 5 {
		ln, accept := authServer(t)
		opt := testOptions(newOracle())
		opt.Upstream, opt.Grace = ln.Addr().String(), 5*time.Millisecond
		s, err := NewUserdb(opt)
		if err != nil {
			t.Fatal(err)
		}
		front, err := net.Listen("unix", filepath.Join(t.TempDir(), "u"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, front) }()
		client, err := net.Dial("unix", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		up, upIn := accept()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			for {
				line, err := upIn.ReadString('\n')
				if err != nil {
					return
				}
				if f := strings.Split(line, "\t"); f[0] == "PASS" {
					fmt.Fprintf(up, "PASS\t%s\tuser=alice@example.org\tproxy=y\n", f[1]) // until usher ends
				}
			}
		}()
		go func() {
			for id := range 100000 {
				if _, err := fmt.Fprintf(client, "PASS\t%d\talice@example.org\tservice=lmtp\n", id); err != nil {
					return
				}
			}
		}()
		time.AfterFunc(10*time.Millisecond, cancel)
		told := map[string]int{}
		for in := bufio.NewReader(client); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			if f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3); f[0] == "PASS" || f[0] == "FAIL" {
				if told[f[1]]++; told[f[1]] > 1 {
					t.Errorf("a second answer: %q", line)
				}
			}
		}
		client.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		up.Close()
		<-answered
	}
}

// What a client asks in one go waits for an absent upstream once.
func TestUserdb_WaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := testOptions(newOracle())
		opt.Upstream = filepath.Join(t.TempDir(), "absent")
		s, err := NewUserdb(opt)
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer server.Close()
			s.userdb(phases{ctx, ctx, ctx}, server)
		}()
		in := bufio.NewReader(client)
		hear(t, in)
		hear(t, in)
		for range 2 {
			start := time.Now()
			lines := ""
			for id := range 10 {
				lines += fmt.Sprintf("PASS\t%d\talice@example.org\tservice=lmtp\n", id)
			}
			say(t, client, lines)
			for id := range 10 {
				if got, want := hear(t, in), fmt.Sprintf("FAIL\t%d\tcode=temp_fail", id); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if d := time.Since(start); d != userdbPatience {
				t.Errorf("ten look-ups waited %v, want %v", d, userdbPatience)
			}
		}
		client.Close()
		cancel()
		<-served
		s.work.close()
	})
}
