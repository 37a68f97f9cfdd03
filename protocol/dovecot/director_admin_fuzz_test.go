package dovecot

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"testing"
	"time"

	"usher/proxy"
)

// adminAnswer is what a director-admin server may say.
var adminAnswer = regexp.MustCompile(`^(VERSION\tdirector-doveadm\t1\t0|OK|NOTFOUND|vhost count too large|usher has no ring: .*` +
	`|[\w.:-]+\t\d+\t\d+\t[^\t\n]*\t[UD]\t\d+|[\w.:-]+|[\w.:-]+\t\d+\t(self)?\t\d+\t[\w ]*\t0|[\w.:-]*\t\d+\t[\w.:-]*\t[^\n]*|\d+\t\d+\t[\w.:-]+|)$`)

// FuzzAdminLines: any bytes on a connection are answered in the protocol's form or
// end it, and leave nothing running.
func FuzzAdminLines(f *testing.F) {
	f.Add([]byte("HOST-LIST\nHOST-LIST-REMOVED\nDIRECTOR-LIST\nUSER-LOOKUP\talice\t\nUSER-LOOKUP\t1\tx\nUSER-LIST\nUSER-LIST\t192.0.2.10\n"))
	f.Add([]byte("HOST-SET\t192.0.2.77@ssd\t7\nHOST-UPDATE\t192.0.2.10\t7\nHOST-UP\t[2001:db8::2]\nHOST-DOWN\t192.0.2.9\nHOST-REMOVE\t192.0.2.9\nHOST-FLUSH\n"))
	f.Add([]byte("HOST-RESET-USERS\t\t5\nUSER-MOVE\t4227319470\t192.0.2.10\nUSER-KICK\talice\tnowait\nUSER-KICK-ALT\tfield\tvalue\nDIRECTOR-ADD\t192.0.2.2\t1\n"))
	f.Add([]byte("HOST-DOWN\t192.0.2.9\r\n\x00\n\x01\n"))
	f.Add(append(bytes.Repeat([]byte("HOST-DOWN\t"), 2000), '\n'))
	d := newTold()
	d.hosts = d.hosts[:5] // without those whose list has no end
	s, err := NewDirectorAdmin(Options{Director: d})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.work.close)
	f.Fuzz(func(t *testing.T, in []byte) {
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer server.Close()
			s.directorAdmin(phases{ctx, ctx, ctx}, server)
		}()
		go io.WriteString(client, adminGreeting+string(in)+"\nBYE\n") // it may be hung up on before the last byte
		for lines := newLineReader(client, 1<<20); ; {
			line, tooLong, err := lines.next(10 * time.Second)
			if err != nil {
				break
			}
			if tooLong || !adminAnswer.MatchString(text(line)) {
				t.Errorf("answered %q", line)
			}
		}
		client.Close()
		cancel()
		<-served
	})
}

// FuzzParseAdmin: what is taken for a request has names and tags that are fit for
// keys, and hosts that are such.
func FuzzParseAdmin(f *testing.F) {
	for _, line := range []string{
		"HOST-LIST", "HOST-SET\t192.0.2.77@ssd\t7", "HOST-SET\t[2001:db8::2]@", "HOST-UPDATE\tmail@a@b\t1", "HOST-FLUSH\t",
		"HOST-RESET-USERS\t192.0.2.9\t5", "USER-LOOKUP\ta\x01tb\tx", "USER-MOVE\t4227319470\t192.0.2.10", "USER-KICK\talice\tnowait",
		"USER-KICK-ALT\tfield\tvalue", "DIRECTOR-REMOVE\t192.0.2.2\t65535", "USER-LIST\tfe80::1%lo",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseAdmin(line)
		if err != nil {
			return
		}
		if r.host != "" && !proxy.ValidHost(r.host) {
			t.Errorf("host %q", r.host)
		}
		for _, s := range []string{r.tag, r.user, r.field} {
			if s != "" && proxy.ValidUser(s) != nil {
				t.Errorf("name or tag %q", s)
			}
		}
		switch {
		case r.parallel < 0, r.vhosts != nil && *r.vhosts < 0:
			t.Errorf("parallel %d, vhosts %v", r.parallel, r.vhosts)
		case r.host == "" && (r.verb == "USER-MOVE" || r.verb == "HOST-DOWN" || r.verb == "HOST-REMOVE" || r.verb == "HOST-SET"):
			t.Errorf("%s of no host", r.verb)
		}
	})
}
