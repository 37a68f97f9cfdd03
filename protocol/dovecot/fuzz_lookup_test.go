package dovecot

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// lookupForm is what a userdb server may say.
var lookupForm = regexp.MustCompile(`^(VERSION\t1\t1|SPID\t\d+|(PASS|USER)\t\d+(\t[^\t=\r\x00]+(=[^\t\r\x00]*)?)*|USER\t\d+\t[^\t\r\x00]*(\t[^\t\r\x00]+)*` +
	`|NOTFOUND\t\d+|FAIL\t\d+\tcode=temp_fail(\treason=[^\t\r\x00]*)?|LIST\t\d+\t[^\t\r\x00]+|DONE\t\d+\t(fail)?)$`)

// few is a directory whose list is short.
type few struct{ directory }

func (few) List(_ context.Context, mask string, yield func(string) bool) error {
	yield("u" + mask)
	return nil
}

// FuzzLookupLines: any bytes on a userdb connection end it or are answered in the
// protocol's form, and leave nothing running.
func FuzzLookupLines(f *testing.F) {
	f.Add([]byte("VERSION\t1\t0\nPASS\t1\talice@example.org\tservice=lmtp\nUSER\t2\tbob\tprotocol=doveadm\nLIST\t3\tuser=*\n"))
	f.Add([]byte("PASS\t1\nPASS\nUSER\t1\t\nUSER\t4294967295\tx\tservice=\x01\nLIST\t\nCACHE-FLUSH\t1\n\x00\r\n"))
	f.Add([]byte("VERSION\t2\t0\nPASS\t1\tunknown\tservice=lmtp\tnologin\n"))
	f.Add([]byte("PASS\t1\tslow\tservice=lmtp\nPASS\t1\ttold\tservice=lmtp\nPASS\t2\ttold\tservice=lmtp\n" + strings.Repeat("x", 9000) + "\n"))
	const last = "\nUSER\t4000000000\tlast\tservice=lmtp\n"
	f.Fuzz(func(t *testing.T, in []byte) {
		opt := testOptions(newOracle())
		opt.HoldLimit, opt.Directory = 20*time.Millisecond, few{}
		s, err := NewUserdb(opt)
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer server.Close()
			s.userdb(phases{ctx, ctx, ctx}, server)
		}()
		go func() {
			client.Write(append(in, last...)) // the server may close before the last byte
		}()
		for in := newLineReader(client, 1<<20); ; {
			line, tooLong, err := in.next(0)
			if err != nil {
				break
			}
			if tooLong || !lookupForm.MatchString(text(line)) {
				t.Errorf("answered %q", line)
			}
			if _, id, _ := command(text(line)); id == "4000000000" {
				break
			}
		}
		client.Close()
		cancel()
		select {
		case <-served:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
		s.work.close()
	})
}

// validUsers wants none but names that a user may have.
type validUsers struct{ t *testing.T }

func (v validUsers) Refresh(_ context.Context, user string) error {
	if err := proxy.ValidUser(user); err != nil {
		v.t.Errorf("refreshed %q: %v", user, err)
	}
	return nil
}

// FuzzNotifyLines: any bytes in the FIFO refresh users with good names only, and
// the reading goes on until usher ends.
func FuzzNotifyLines(f *testing.F) {
	f.Add([]byte("alice@example.org\ntab\x01there\n\x01\n\n\x01r\x01n\n"))
	f.Add([]byte(strings.Repeat("x", 600) + "\nbob"))
	f.Fuzz(func(t *testing.T, in []byte) {
		writer, reader := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() {
			defer close(served)
			NewNotify(validUsers{t}, nil).read(ctx, reader)
		}()
		if _, err := writer.Write(append(in, '\n')); err != nil {
			t.Errorf("the reading ended: %v", err)
		}
		cancel()
		select {
		case <-served:
		case <-time.After(10 * time.Second):
			t.Fatal("the reading does not end")
		}
		writer.Close()
	})
}

var toldForm = regexp.MustCompile(`^[A-Z]+(\t[^\t\n]*)*\n$`)

// FuzzKept: whatever state comes with a connection, it is served in the
// protocol's form or ended.
func FuzzKept(f *testing.F) {
	good, err := json.Marshal(keptState{Kind: "standalone", Minor: "2", In: []byte(authPlain(1, "alice@example.org"))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add([]byte(`{"Kind":"interposed","Minor":"-1","In":"QVVUSAkx","Upstream":"/nowhere","Linked":true,"UpIn":"T0sJMQo=","Born":"0001-01-01T00:00:00Z"}`), true)
	f.Add([]byte(`{"Kind":"interposed","Upstream":"/nowhere","Greeted":true,"Mechs":["PLAIN"],"Version":"VERSION\t1\t9999999999999\n"}`), false)
	f.Add([]byte(`{"Kind":"standalone","Minor":"0","In":"`+strings.Repeat("QUFB", 8000)+`"}`), true)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, state []byte, linked bool) {
		opt := testOptions(newOracle())
		opt.HoldLimit, opt.Grace = 20*time.Millisecond, 100*time.Millisecond
		for _, upstream := range []string{"", "/nowhere"} {
			opt.Upstream = upstream
			s, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			s.waits.reconnect = 0
			client, server := net.Pipe()
			far, near := net.Pipe()
			go answerAll(far)
			p := &passed{Conn: server, state: state}
			if linked {
				p.more = []net.Conn{near}
			}
			ctx, cancel := context.WithCancel(context.Background())
			hard, cut := context.WithCancel(context.Background())
			defer context.AfterFunc(hard, func() { server.Close() })()
			served := make(chan struct{})
			go func() {
				defer close(served)
				defer server.Close()
				s.serve(phases{ctx, hard, hard}, p)
			}()
			go func() {
				client.Write([]byte("\nCANCEL\t9\n")) // it may be closed
			}()
			if err := client.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			told, err := io.ReadAll(client)
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				for line := range strings.Lines(string(told)) {
					if upstream == "" && !toldForm.MatchString(line) {
						t.Errorf("answered %q", line)
					}
				}
			}
			client.Close()
			cancel()
			cut()
			select {
			case <-served:
			case <-time.After(10 * time.Second):
				t.Fatal("the connection does not end")
			}
			far.Close()
			near.Close()
			s.work.close()
		}
	})
}
