package nginx

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	"shared_secret": func(o *Options) { o.SharedSecret = proxy.NewSecret("s3cret key") },
	"no_auth":       func(o *Options) { o.AllowNoAuth = true },
	"protocols":     func(o *Options) { o.Protocols = []string{"imap"} },
}

// TestTranscripts plays testdata/*.txt over TCP: C: is a line that nginx sends,
// S: one that it must read, each ended by CR LF. `! connect` opens a new
// connection; a connection that usher ends reads as <closed>. Bytes outside
// printable ASCII and UTF-8 stand as \xNN, and {N*x} for x N times.
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
	opt := testOptions(newOracle())
	opt.Log = zap.New(core)
	if change := settings[name]; change != nil {
		change(&opt)
	}
	addr, stop := serve(t, opt, "tcp")
	var (
		got  []string
		conn net.Conn
		in   *bufio.Reader
	)
	want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for _, line := range want {
		switch {
		case strings.HasPrefix(line, "S: "):
			if !*update {
				got = append(got, "S: "+hear(t, conn, in, 5*time.Second))
			}
			continue
		case line == "! connect":
			conn = dial(t, addr)
			in = bufio.NewReader(conn)
		case strings.HasPrefix(line, "C: "):
			if _, err := conn.Write([]byte(parse(line[3:]) + "\r\n")); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		got = append(got, line)
		if *update && line == "C: " {
			for l := ""; l != "<closed>"; {
				if l = hear(t, conn, in, 150*time.Millisecond); l == "<nothing>" {
					break
				}
				got = append(got, "S: "+l)
			}
		}
	}
	stop()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-file +usher):\n%s", file, diff)
	}
	noSecrets(t, logs)
}

var (
	date   = regexp.MustCompile(`^Date: .*`)
	repeat = regexp.MustCompile(`\{([0-9]+)\*(.)\}`)
)

// hear reads a line.
func hear(t *testing.T, c net.Conn, in *bufio.Reader, patience time.Duration) string {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := in.ReadString('\n')
	switch {
	case err == nil || line != "":
		return date.ReplaceAllString(strings.TrimSuffix(line, "\r\n"), "Date: <any>")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "<nothing>"
	}
	return "<closed>"
}

// parse replaces \xNN and {N*x}.
func parse(s string) string {
	s = repeat.ReplaceAllStringFunc(s, func(m string) string {
		var n int
		var x byte
		if _, err := fmt.Sscanf(m, "{%d*%c}", &n, &x); err != nil {
			panic(err)
		}
		return strings.Repeat(string(x), n)
	})
	return regexp.MustCompile(`\\x[0-9a-f]{2}`).ReplaceAllStringFunc(s, func(m string) string {
		var c byte
		if _, err := fmt.Sscanf(m[2:], "%02x", &c); err != nil {
			panic(err)
		}
		return string([]byte{c})
	})
}

// noSecrets looks for passwords in the log: all of them begin with s3cret.
func noSecrets(t *testing.T, logs *observer.ObservedLogs) {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	for _, e := range logs.All() {
		buf, err := enc.Clone().EncodeEntry(e.Entry, e.Context)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(buf.String(), "s3cret") {
			t.Errorf("a password in the log: %s", buf)
		}
	}
}
