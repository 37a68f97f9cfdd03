package dovecot

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
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
