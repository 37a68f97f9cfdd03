package dovecot

import (
	"bytes"
	"context"
	"encoding/base64"
	"net"
	"regexp"
	"testing"
	"time"
)

// answerForm is what a standalone server may say.
var answerForm = regexp.MustCompile(`^(VERSION\t1\t2|MECH\t(PLAIN|LOGIN|OAUTHBEARER|XOAUTH2)\tplaintext|SPID\t\d+|CUID\t\d+|COOKIE\t[0-9a-f]{32}|DONE` +
	`|(OK|FAIL)\t\d+(\t[^\t=\r\x00]+(=[^\t\r\x00]*)?)*|CONT\t\d+\t[A-Za-z0-9+/=]*|CANCELLED\t\d+)$`)

// end is answered by a FAIL, also where its number is in use: the third CONT of
// an exchange is one too many.
const (
	end     = "\nCONT\t4294967295\nCONT\t4294967295\nCONT\t4294967295\n"
	endTold = "FAIL\t4294967295\treason=Authentication request timed out"
)

// FuzzClientLines: any bytes on a standalone connection end it or are answered
// in the protocol's form, and leave nothing running.
func FuzzClientLines(f *testing.F) {
	f.Add([]byte("VERSION\t1\t4\nCPID\t1\n" + authPlain(1, "alice@example.org") + "AUTH\t2\tLOGIN\tservice=imap\nCONT\t2\tYQ==\nCONT\t2\tYQ==\nCANCEL\t3\n"))
	f.Add([]byte("VERSION\t1\t0\nAUTH\t1\tPLAIN\tnologin\tservice=smtp\tresp=\nCONT\t1\tAGJyb2tlbgB4\n"))
	f.Add([]byte("AUTH\t1\nAUTH\t1\tPLAIN\tservice=imap\tresp=%\nCONT\t1\nCONT\nCANCEL\n\n\x00\x01\r\n"))
	f.Add([]byte("AUTH\t1\tOAUTHBEARER\tservice=imap\tresp=" + inBase64("n,a=wrong,\x01auth=Bearer t\x01\x01") + "\nCONT\t1\tAQ==\n"))
	f.Add([]byte("AUTH\t1\tXOAUTH2\tservice=imap\nCONT\t1\t" + inBase64("user=a\x01auth=Bearer t\x01\x01") + "\nCANCEL\t1\n"))
	f.Add([]byte("VERSION\t2\t0\nAUTH\t1\tPLAIN\tservice=imap\n"))
	f.Add(append(bytes.Repeat([]byte("AUTH\t5\tPLAIN"), 2000), '\n'))
	f.Fuzz(func(t *testing.T, in []byte) {
		o := newOracle()
		opt := testOptions(o)
		opt.HoldLimit = 20 * time.Millisecond
		opt.Mechanisms = []string{"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"}
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer server.Close()
			s.standalone(phases{ctx, ctx, ctx}, server)
		}()
		go func() {
			client.Write(append(in, end...)) // the server may close before the last byte
		}()
		checkAnswers(t, client)
		cancel()
		select {
		case <-served: // its workers with it
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
		s.work.close()
	})
}

func inBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// checkAnswers reads until the answer to end, or the connection's, and leaves.
func checkAnswers(t *testing.T, c net.Conn) {
	defer c.Close()
	in := newLineReader(c, 1<<20)
	for {
		line, tooLong, err := in.next(0)
		switch {
		case err != nil:
			return
		case tooLong || !answerForm.MatchString(text(line)):
			t.Errorf("answered %q", line)
		case text(line) == endTold:
			return
		}
	}
}
