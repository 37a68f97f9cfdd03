package dovecot

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A keeper is a listener that keeps what is handed over.
type keeper struct {
	net.Listener
	kept chan keptState
}

func (k *keeper) Keep(text []byte, conns ...net.Conn) error {
	var s keptState
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if len(conns) != 1 && !s.Linked || len(conns) != 2 && s.Linked {
		return fmt.Errorf("%d connections, linked %t", len(conns), s.Linked)
	}
	k.kept <- s
	return nil
}

// slowUpstream is an auth server that says OK to each AUTH a while later.
func slowUpstream(t *testing.T, sock string, late time.Duration) {
	t.Helper()
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n")
		var mu sync.Mutex
		in := bufio.NewScanner(c)
		for in.Scan() {
			verb, id, _ := command(in.Text())
			if verb != "AUTH" {
				continue
			}
			wg.Go(func() {
				time.Sleep(late)
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(c, "OK\t%s\tuser=alice@example.org\tproxy\n", id) // the connection may have ended
			})
		}
	})
}

// A connection that always has something outstanding is handed over all the same,
// and nobody on it is told anything but what the auth server said.
func TestHandOver_Busy(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"interposed", "standalone"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "usher")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			o := newOracle()
			opt := testOptions(o)
			user := "alice@example.org"
			if kind == "interposed" {
				opt.Upstream = filepath.Join(dir, "upstream")
				slowUpstream(t, opt.Upstream, 300*time.Millisecond)
			} else {
				opt.FailureDelay, user = 300*time.Millisecond, "wrong@example.org"
			}
			s, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			inner, err := net.Listen("unix", filepath.Join(dir, "auth"))
			if err != nil {
				t.Fatal(err)
			}
			ln := &keeper{inner, make(chan keptState, 1)}
			ctx, stop := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			c, err := net.Dial("unix", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()

			answers := map[string]string{}
			var reading, writing sync.WaitGroup
			reading.Go(func() {
				in := bufio.NewScanner(c)
				for in.Scan() {
					if verb, id, _ := command(in.Text()); verb == "OK" || verb == "FAIL" || verb == "CONT" {
						answers[id] = in.Text()
					}
				}
			})
			say(t, c, "VERSION\t1\t2\nCPID\t77\n")
			end, sent := make(chan struct{}), 0
			writing.Go(func() {
				for id := 1; ; id++ {
					select {
					case <-end:
						return
					case <-time.After(50 * time.Millisecond):
					}
					if _, err := fmt.Fprint(c, authPlain(id, user)); err != nil {
						return
					}
					sent = id
				}
			})
			time.Sleep(500 * time.Millisecond)
			stop()
			begin := time.Now()
			var kept keptState
			select {
			case kept = <-ln.kept:
			case <-time.After(8 * time.Second):
				t.Fatal("it was not handed over")
			}
			took := time.Since(begin)
			close(end)
			writing.Wait()
			if err := <-served; err != nil {
				t.Error(err)
			}
			reading.Wait()
			if kept.Kind != kind || kept.Minor != "2" || kind == "interposed" && (!kept.Ready || !kept.Linked || kept.CPID != "CPID\t77\n") {
				t.Errorf("state %+v", kept)
			}
			if took > 4*time.Second {
				t.Errorf("handed over after %s", took)
			}
			t.Logf("%d of %d answered, handed over after %s", len(answers), sent, took.Round(time.Millisecond))
			for id, line := range answers {
				if strings.Contains(line, "temp_fail") {
					t.Errorf("%s: %q", id, line)
				}
			}
			if len(answers) == 0 || len(answers) > sent {
				t.Errorf("%d of %d answered", len(answers), sent)
			}
		})
	}
}
