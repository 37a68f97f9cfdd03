package dovecot

import (
	"bufio"
	"context"
	"encoding/base64"
	"net"
	"strings"
	"testing"
)

// A wrapped connection, as those that are counted are.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrapped{c}, nil
}

// Postfix finds out by a write that usher has closed a TCP connection, so the
// first one must fail: after a temporary failure, and when usher has ended.
func TestReset(t *testing.T) {
	for name, ask := range map[string]struct {
		user string
		stop bool
	}{
		"TempFail": {user: "broken@example.org"},
		"Ending":   {user: "wrong@example.org", stop: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(testOptions(newOracle()))
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Serve(ctx, wrapping{ln}) }()
			defer func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()

			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			in := bufio.NewReader(c)
			say(t, c, "VERSION\t1\t0\nCPID\t7\nAUTH\t1\tPLAIN\tservice=smtp\tnologin\tresp="+
				base64.StdEncoding.EncodeToString([]byte("\x00"+ask.user+"\x00s3cret"))+"\n")
			for hear(t, in) != "DONE" {
			}
			if ask.stop {
				if line := hear(t, in); !strings.HasPrefix(line, "FAIL\t1") {
					t.Fatal(line)
				}
				stop()
			}
			if line, err := in.ReadString('\n'); err == nil {
				t.Fatalf("not closed: %q", line)
			}
			if _, err := c.Write([]byte("AUTH\t2\tPLAIN\tservice=smtp\tnologin\n")); err == nil {
				t.Error("the next write goes well")
			}
		})
	}
}
