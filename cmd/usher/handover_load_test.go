package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeAuth answers as an auth server does, for as long as the test runs.
func fakeAuth(t *testing.T, path string) (connections *atomic.Int32) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	connections = &atomic.Int32{}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer c.Close()
				fmt.Fprint(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n")
				for in := bufio.NewScanner(c); in.Scan(); {
					if f := strings.Split(in.Text(), "\t"); f[0] == "AUTH" {
						fmt.Fprintf(c, "OK\t%s\tuser=alice@example.org\tproxy\n", f[1])
					}
				}
			}()
		}
	}()
	return connections
}

// Reloads that change a listener, one after the other, fail no login and close
// no connection, nor do they make others to the auth server.
func TestReload_UnderLoad(t *testing.T) {
	for _, upstream := range []bool{false, true} {
		t.Run(fmt.Sprint("upstream ", upstream), func(t *testing.T) {
			dir := shortDir(t)
			sock, auth := filepath.Join(dir, "s"), filepath.Join(dir, "a")
			made, more := fakeAuth(t, auth), ""
			if upstream {
				more = ", upstream: \"unix:" + auth + "\""
			}
			yaml := func(delay int) string {
				return fmt.Sprintf("failure_delay: %dms\ncontrol: {address: \"\", http: \"\"}\ndovecot: {listeners: [{address: \"unix:%s\"%s}]}\n"+
					"director: {script: %q}\nbackend_server_monitoring: {backend_servers: []}\n", delay, sock, more, filepath.Join(dir, "p.lua"))
			}
			write(t, filepath.Join(dir, "p.lua"), "local b = require('nauthilus_backend')\nfunction nauthilus_call_filter(request)\n"+
				"  b.select_backend_server('127.0.0.2', 143)\n  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK\nend\n")
			a := runApp(t, dir, yaml(0))
			const clients = 12
			var wg, greeted sync.WaitGroup
			end := make(chan struct{})
			var logins atomic.Int32
			resp := base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00s3cret"))
			for range clients {
				c, err := net.Dial("unix", sock)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				greeted.Add(1)
				wg.Go(func() {
					in := bufio.NewReader(c)
					fmt.Fprint(c, "VERSION\t1\t2\nCPID\t4711\n")
					for line := ""; line != "DONE\n"; {
						if line, err = in.ReadString('\n'); err != nil {
							t.Error(err)
							break
						}
					}
					greeted.Done()
					for id := 1; ; id++ {
						select {
						case <-end:
							return
						default:
						}
						if err := c.SetDeadline(time.Now().Add(9 * time.Second)); err != nil {
							t.Error(err)
							return
						}
						fmt.Fprintf(c, "AUTH\t%d\tPLAIN\tservice=imap\tresp=%s\n", id, resp)
						line, err := in.ReadString('\n')
						if err != nil || !strings.HasPrefix(line, fmt.Sprintf("OK\t%d\t", id)) || !strings.Contains(line, "host=127.0.0.2") {
							t.Errorf("login %d: %q (%v)", id, line, err)
							return
						}
						logins.Add(1)
					}
				})
			}
			greeted.Wait()
			for i := range 40 {
				time.Sleep(time.Duration(i%5) * 3 * time.Millisecond)
				write(t, filepath.Join(dir, "u.yaml"), yaml(i%2+1))
				if err := a.Reload(false); err != nil {
					t.Fatal(err)
				}
			}
			close(end)
			wg.Wait()
			if n := made.Load(); upstream && n != clients {
				t.Errorf("%d connections to the auth server for %d clients", n, clients)
			}
			t.Logf("%d logins over 40 reloads", logins.Load())
		})
	}
}
