package dovecot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

var update = flag.Bool("update", false, "write what usher answers into testdata/*.txt")

// settings are what a transcript's server has besides testOptions, by the
// file's name.
var settings = map[string]func(*Options){
	"overload":        func(o *Options) { o.MaxOutstanding = 2 },
	"relay_overload":  func(o *Options) { o.MaxOutstanding = 1 },
	"require_secured": func(o *Options) { o.RequireSecured = true },
	"oauth":           tokens,
	"oauth_backend":   tokens,
	"oauth_dialogue":  tokens,
	"oauth_secured": func(o *Options) {
		tokens(o)
		o.Mechanisms = append(o.Mechanisms, "LOGIN")
		o.RequireSecured = true
	},
	"oauth_shutdown": func(o *Options) {
		tokens(o)
		o.Grace = 100 * time.Millisecond
	},
	"hold_expiry":       func(o *Options) { o.HoldLimit = 30 * time.Millisecond },
	"relay_hold_expiry": func(o *Options) { o.HoldLimit = 30 * time.Millisecond },
	"master": func(o *Options) {
		o.MasterUser, o.MasterPass = "usher", proxy.NewSecret("s3cret master")
	},
	"relay_master": func(o *Options) {
		o.MasterUser, o.MasterPass = "usher", proxy.NewSecret("s3cret master")
	},
}

func tokens(o *Options) { o.Mechanisms = []string{"PLAIN", "OAUTHBEARER", "XOAUTH2"} }

// TestTranscripts plays testdata/*.txt. A file with relay_ in its name is for an
// interposed server, one whose name begins with userdb_ for the auth-master
// protocol. In a file
//
//	C:  is sent by the client          S:  is what the client must read
//	U:  is sent by the auth server     u:  is what the auth server must read
//	!   is an order to the test: see play.order
//	#   and empty lines are for the reader
//
// TAB stands as \t, other control bytes as \xNN, and {N*x} for x N times. A
// connection that ends reads as <closed>. Nothing else may be read at the end.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			playFile(t, name, file)
		})
	}
}

func playFile(t *testing.T, name, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	p := newPlay(t, strings.Contains(name, "relay_"), strings.HasPrefix(name, "userdb_"), zap.New(core), settings[name])
	var got []string
	want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for _, line := range want {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			got = append(got, line)
		case strings.HasPrefix(line, "S: "), strings.HasPrefix(line, "u: "):
			if !*update {
				got = append(got, line[:3]+p.read(line[:1]))
			}
		default:
			got = append(got, line)
			p.do(line)
			if *update {
				got = append(got, p.readAll()...)
			}
		}
		if t.Failed() {
			break
		}
	}
	got = append(got, p.end()...)
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-file +usher):\n%s", file, diff)
	}
	noSecrets(t, logs, want)
}

// A play is a transcript that is being played.
type play struct {
	t      *testing.T
	o      *oracle
	sock   string // of the auth server
	client net.Conn
	server chan string // what the client reads
	up     chan string // what the auth server reads
	stop   context.CancelFunc
	served chan error

	mu       sync.Mutex
	upstream net.Conn
	ln       net.Listener
	listen   net.Addr // of usher
	readers  sync.WaitGroup
}

func newPlay(t *testing.T, relayed, userdb bool, log *zap.Logger, change func(*Options)) *play {
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &play{
		t: t, o: newOracle(), sock: filepath.Join(dir, "upstream"),
		server: make(chan string, 4096), up: make(chan string, 4096), served: make(chan error, 1),
	}
	opt := testOptions(p.o)
	opt.Log = log
	if relayed {
		opt.Upstream = p.sock
	}
	if change != nil {
		change(&opt)
	}
	open := New
	if userdb {
		open, opt.Directory = NewUserdb, directory{}
	}
	s, err := open(opt)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "auth"))
	if err != nil {
		t.Fatal(err)
	}
	s.waits = waits{greet: 100 * time.Millisecond, greetUnseen: 500 * time.Millisecond, speak: 100 * time.Millisecond, reconnect: 3 * time.Second}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() { p.served <- s.Serve(ctx, ln) }()
	p.listen = ln.Addr()
	p.connect()
	t.Cleanup(p.close)
	return p
}

// connect makes the client's connection.
func (p *play) connect() {
	c, err := net.Dial("unix", p.listen.String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.client = c
	p.readers.Go(func() { readInto(c, p.server) })
}

// close ends everything, also of a transcript that failed.
func (p *play) close() {
	p.client.Close()
	p.stop()
	p.mu.Lock()
	for _, c := range []interface{ Close() error }{p.ln, p.upstream} {
		if c != nil {
			c.Close()
		}
	}
	p.mu.Unlock()
	if err := <-p.served; err != nil {
		p.t.Errorf("Serve: %v", err)
	}
	p.readers.Wait()
}

func readInto(c net.Conn, to chan<- string) {
	in := bufio.NewReaderSize(c, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			to <- show(line)
		}
		if err != nil {
			to <- "<closed>"
			return
		}
	}
}

var (
	masked = regexp.MustCompile(`^(SPID|CUID)\\t[0-9]+$|^(COOKIE)\\t[0-9a-f]{32}$`)
	repeat = regexp.MustCompile(`\{([0-9]+)\*(.)\}`)
)

// show writes a line as transcripts have it; one without its LF ends in <no LF>.
func show(line string) string {
	var b strings.Builder
	body, ended := strings.CutSuffix(line, "\n")
	for i := range len(body) {
		switch c := body[i]; {
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	if !ended {
		b.WriteString("<no LF>")
	}
	return masked.ReplaceAllString(b.String(), `$1$2\t<any>`)
}

// parse is the reverse of show.
func parse(s string) string {
	s, open := strings.CutSuffix(s, "<no LF>")
	s = repeat.ReplaceAllStringFunc(s, func(m string) string {
		var n int
		var x byte
		if _, err := fmt.Sscanf(m, "{%d*%c}", &n, &x); err != nil {
			panic(err)
		}
		return strings.Repeat(string(x), n)
	})
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], `\t`):
			b.WriteByte('\t')
			i++
		case strings.HasPrefix(s[i:], `\x`):
			var c byte
			if _, err := fmt.Sscanf(s[i+2:i+4], "%02x", &c); err != nil {
				panic(err)
			}
			b.WriteByte(c)
			i += 3
		default:
			b.WriteByte(s[i])
		}
	}
	if !open {
		b.WriteByte('\n')
	}
	return b.String()
}

// do carries out a line that is not an expectation. Several C: or U: lines that
// belong in one write are joined by \x0a.
func (p *play) do(line string) {
	var err error
	switch {
	case strings.HasPrefix(line, "C: "):
		_, err = p.client.Write([]byte(parse(line[3:])))
	case strings.HasPrefix(line, "U: "):
		p.mu.Lock()
		_, err = p.upstream.Write([]byte(parse(line[3:])))
		p.mu.Unlock()
	case strings.HasPrefix(line, "! "):
		err = p.order(line[2:])
	default:
		err = errors.New("no such line")
	}
	if err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
}

// order carries out an order:
//
//	upstream listens       from now on; waits for usher's connection
//	upstream accepts       another connection of usher
//	upstream closes        its connection
//	upstream leaves        closes its connection and the socket
//	client again           connects anew, after its connection was closed
//	client leaves          closes its connection
//	pause                  for a tenth of a second
//	release USER           a `slow` user's decision may be made
//	asked USER             wait until the handler was asked for the user
//	recorded OUTCOME WHY   one such decision was recorded
//	shutdown               Serve is told to end
func (p *play) order(s string) error {
	verb, arg, _ := strings.Cut(s, " ")
	switch s {
	case "upstream listens":
		ln, err := net.Listen("unix", p.sock)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.ln = ln
		p.mu.Unlock()
		return p.accept()
	case "upstream accepts":
		return p.accept()
	case "upstream leaves":
		return errors.Join(p.upstream.Close(), p.ln.Close())
	case "client again":
		p.connect()
		return nil
	case "client leaves":
		return p.client.Close()
	case "pause":
		<-time.After(100 * time.Millisecond)
		return nil
	case "upstream closes":
		return p.upstream.Close()
	case "shutdown":
		p.stop()
		return nil
	}
	switch verb {
	case "release":
		close(p.o.gate(arg))
		return nil
	case "asked":
		return p.until(func() bool { p.o.mu.Lock(); defer p.o.mu.Unlock(); return p.o.asked[arg] > 0 })
	case "recorded":
		out, why, _ := strings.Cut(arg, " ")
		for o := proxy.TempFail; o <= proxy.Passed; o++ {
			if o.String() == out {
				return p.until(func() bool { return p.o.records(o, proxy.Reason(why)) == 1 })
			}
		}
	}
	return errors.New("no such order")
}

func (p *play) accept() error {
	if err := p.ln.(*net.UnixListener).SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	c, err := p.ln.Accept()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.upstream = c
	p.mu.Unlock()
	p.readers.Go(func() { readInto(c, p.up) })
	return nil
}

func (p *play) until(done func() bool) error {
	for end := time.Now().Add(5 * time.Second); !done(); {
		if time.Now().After(end) {
			return errors.New("it never came to that")
		}
		<-time.After(time.Millisecond)
	}
	return nil
}

func (p *play) source(who string) chan string {
	if who == "u" {
		return p.up
	}
	return p.server
}

// read returns the next line that the client ("S") or the auth server ("u") reads.
func (p *play) read(who string) string {
	select {
	case line := <-p.source(who):
		return line
	case <-time.After(5 * time.Second):
		p.t.Errorf("nothing came for %s", who)
		return "<nothing>"
	}
}

// readAll returns what comes until it is quiet, for -update.
func (p *play) readAll() (lines []string) {
	for {
		select {
		case line := <-p.server:
			lines = append(lines, "S: "+line)
		case line := <-p.up:
			lines = append(lines, "u: "+line)
		case <-time.After(150 * time.Millisecond):
			return lines
		}
	}
}

// end lets the client leave and returns what was not asked for.
func (p *play) end() (lines []string) {
	if err := p.client.(*net.UnixConn).CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
		p.t.Error(err)
	}
	ended := make(chan struct{})
	go func() { p.readers.Wait(); close(ended) }()
	select {
	case <-ended: // usher closed both connections
	case <-time.After(10 * time.Second):
		p.t.Error("the client left, and usher keeps a connection")
		return nil
	}
	for {
		select {
		case line := <-p.server:
			if line != "<closed>" {
				lines = append(lines, "S: "+line)
			}
		case line := <-p.up:
			if line != "<closed>" {
				lines = append(lines, "u: "+line)
			}
		default:
			return lines
		}
	}
}

// noSecrets looks for the passwords and SASL data of a transcript in the log.
func noSecrets(t *testing.T, logs *observer.ObservedLogs, transcript []string) {
	secrets := []string{"s3cret"}
	data := regexp.MustCompile(`resp=([A-Za-z0-9+/=]{8,})|CONT\\t[0-9]+\\t([A-Za-z0-9+/=]{8,})|pass=([^\\]{4,})`)
	for _, line := range transcript {
		for _, m := range data.FindAllStringSubmatch(line, -1) {
			secrets = append(secrets, m[1]+m[2]+m[3])
		}
	}
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	for _, e := range logs.All() {
		buf, err := enc.Clone().EncodeEntry(e.Entry, e.Context)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(buf.Bytes()) {
			t.Errorf("no JSON: %s", buf)
		}
		for _, s := range secrets {
			if strings.Contains(buf.String(), s) {
				t.Errorf("the log has %q: %s", s, buf)
			}
		}
	}
}
