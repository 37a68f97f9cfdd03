package dovecot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/proxy"
	"usher/proxy/moves"
)

// apiOf23 and apiOf24 are what GET lists, cut short.
const (
	apiOf23 = `[{"command":"who","parameters":[{"name":"mask","type":"array"}]},{"command":"proxyKick","parameters":[{"name":"socketPath","type":"string"},{"name":"user","type":"array"}]}]`
	apiOf24 = `[{"command":"proxyKick","parameters":[{"name":"passdbField","type":"string"},{"name":"mask","type":"array"}]}]`
)

// A webServer is an HTTP API that answers each POST with the next of answers, and
// shows the secret to whom it refuses.
type webServer struct {
	api     string
	answers []string
	asked   []string
}

func (s *webServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	auth := r.Header.Get("Authorization")
	switch {
	case r.URL.Path != "/doveadm/v1":
		http.NotFound(w, r)
	case auth != "X-Dovecot-API aHVzaA==" && auth != "Basic ZG92ZWFkbTpodXNo":
		http.Error(w, auth, http.StatusUnauthorized)
	case r.Method == http.MethodGet:
		io.WriteString(w, s.api)
	default:
		body, _ := io.ReadAll(r.Body)
		s.asked = append(s.asked, string(body))
		io.WriteString(w, s.answers[0])
		s.answers = s.answers[1:]
	}
}

func webDoveadm(t *testing.T, s *webServer, opt DoveadmOptions) *Doveadm {
	t.Helper()
	srv := httptest.NewTLSServer(s)
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	opt.URL, opt.Role, opt.TLS = srv.URL, moves.Proxy, &tls.Config{RootCAs: pool}
	d, err := NewDoveadm(opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What goes over HTTP, here with TLS.
func TestDoveadm_HTTP(t *testing.T) {
	for _, opt := range []DoveadmOptions{{APIKey: proxy.NewSecret("hush")}, {Password: proxy.NewSecret("hush")}} {
		s := &webServer{api: apiOf24, answers: []string{
			`[["doveadmResponse",[{"username":"a\"\\","service":"imap-login","pid":"7","ip":"192.0.2.7","dest_ip":"192.0.2.1"}],"0"],["doveadmResponse",[],"1"]]`,
			`[["doveadmResponse",[{"username":"a\"\\","service":"imap-login","pid":"7","ip":"192.0.2.7","dest_ip":"192.0.2.1"},{"username":"a\"\\","service":"imap","pid":8,"ip":null,"dest_ip":"192.0.2.2"}],"0"]]`,
			`[["doveadmResponse",[{"count":"1"}],"0"]]`,
			`[["error",{"type":"exitCode","exitCode":68},"0"]]`,
			`[["error",{"type":"exitCode","exitCode":75},"0"]]`,
			`[["error",{"type":"unAuthorized","exitCode":0},"0"]]`,
			`[["error",{"type":"hush aHVzaA==","exitCode":0},"0"]]`,
		}}
		d := webDoveadm(t, s, opt)
		const name = `a"\`
		got, err := d.Sessions(t.Context(), []string{name, "b"})
		if want := []moves.Session{{User: name, Service: "imap", RemoteIP: "192.0.2.7", Host: "192.0.2.1", At: d.Name()}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("sessions %+v, want %+v; error %v", got, want, err)
		}
		if err := d.Kick(t.Context(), []string{name}, "192.0.2.2"); err != nil || d.Doubt() == "" {
			t.Errorf("error %v, doubt %q", err, d.Doubt())
		}
		if err := d.Kick(t.Context(), []string{"b"}, ""); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"`kick`: TEMPFAIL", "doveadm_allowed_commands", "[redacted] [redacted]"} {
			if err := d.Kick(t.Context(), []string{"b"}, ""); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("error %v, want one with %q", err, want)
			}
		}
		want := []string{
			`[["who",{"mask":["a\"\\"],"separateConnections":true},"0"],["who",{"mask":["b"],"separateConnections":true},"1"]]`,
			`[["who",{"mask":["a\"\\"],"separateConnections":true},"0"]]`,
			`[["kick",{"destHost":"192.0.2.2","mask":["a\"\\"]},"0"]]`,
		}
		if !slices.Equal(s.asked[:3], want) {
			t.Errorf("asked %q, want %q", s.asked[:3], want)
		}
	}

	s := &webServer{api: apiOf23, answers: []string{`[["doveadmResponse",[{"count":"(null)"}],"0"]]`}}
	d := webDoveadm(t, s, DoveadmOptions{APIKey: proxy.NewSecret("hush")})
	if err := d.Kick(t.Context(), []string{"*", "b"}, ""); err != nil || !slices.Equal(s.asked, []string{`[["proxyKick",{"user":["*","b"]},"0"]]`}) {
		t.Errorf("asked %q, error %v", s.asked, err)
	}

	d = webDoveadm(t, s, DoveadmOptions{APIKey: proxy.NewSecret("wrong-key")})
	if _, err := d.Sessions(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "does not take the key") || strings.Contains(err.Error(), "wrong-key") {
		t.Errorf("a wrong key: error %v", err)
	}
	for _, api := range []string{"", "[]", "{}", `[{"command":"proxyKick","parameters":[]}]`, `[{"command":7}]`} {
		d := webDoveadm(t, &webServer{api: api}, DoveadmOptions{APIKey: proxy.NewSecret("hush")})
		if _, err := d.Sessions(t.Context(), nil); err == nil {
			t.Errorf("an API of %q, and no error", api)
		}
	}
}

func TestReadReplies(t *testing.T) {
	for _, in := range []string{
		"", "[", "[]", "{}", "7", `[["doveadmResponse",[],"0"]`, `[["doveadmResponse",[],"1"]]`, `[["doveadmResponse",[],0]]`,
		`[["doveadmResponse",[],"0","x"]]`, `[["doveadmResponse",{},"0"]]`, `[["doveadmResponse",[[]],"0"]]`, `[["doveadmResponse",[{"a":[]}],"0"]]`,
		`[["doveadmResponse",[],"0"],["doveadmResponse",[],"1"]]`, `[["doveadmResponse",[],"0"],["doveadmResponse",[],"0"]]`,
		`[["error",[],"0"]]`, `[["other",[],"0"]]`, `[[7,[],"0"]]`,
	} {
		if r, err := readReplies(json.NewDecoder(strings.NewReader(in)), 1); err == nil {
			t.Errorf("%s is read as %+v", in, r)
		}
	}
	long := `[["doveadmResponse",[{"a":"` + strings.Repeat("x", 1000) + `"}],"0"]]`
	if _, err := readReplies(json.NewDecoder(&cappedReader{strings.NewReader(long), 500}), 1); !errors.Is(err, errLongReply) {
		t.Errorf("over the limit: error %v", err)
	}
}

// FuzzDoveadmJSON: any answer over HTTP is one reply for each command, or an error.
func FuzzDoveadmJSON(f *testing.F) {
	f.Add([]byte(`[["doveadmResponse",[{"username":"a","service":"imap","pid":7,"ip":null}],"0"],["error",{"type":"exitCode","exitCode":68},"1"]]`))
	f.Add([]byte(apiOf23))
	f.Add([]byte(apiOf24))
	f.Fuzz(func(t *testing.T, in []byte) {
		replies, err := readReplies(json.NewDecoder(bytes.NewReader(in)), 2)
		if err == nil && len(replies) != 2 {
			t.Errorf("%d replies", len(replies))
		}
		for _, r := range replies {
			if bytes.IndexByte(r.values, '\n') >= 0 || r.width > bytes.Count(r.values, []byte{'\t'}) {
				t.Errorf("reply %+v", r)
			}
		}
		if d, err := readCommands(json.NewDecoder(bytes.NewReader(in))); (err == nil) != (d == doveadm23 || d == doveadm24) {
			t.Errorf("dialect %d, error %v", d, err)
		}
	})
}

// frame is one of doveadm's protocol.
func frame(channel byte, data string) string {
	b := binary.BigEndian.AppendUint32([]byte{channel}, uint32(len(data)))
	return string(b) + data
}

// serve answers one connection: it expects what a line with `>` says and sends what
// one with `<` does.
func serve(t *testing.T, script ...string) *Doveadm {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		for _, s := range script {
			if s[0] == '<' {
				io.WriteString(c, s[1:])
				continue
			}
			if got, err := in.ReadString('\n'); got != s[1:] {
				t.Errorf("got %q, want %q; error %v", got, s[1:], err)
				return
			}
		}
	}()
	d, err := NewDoveadm(DoveadmOptions{URL: "tcp:" + l.Addr().String(), Password: proxy.NewSecret("hush"), Role: moves.Proxy, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	version   = ">VERSION\tdoveadm-server\t1\t1\n"
	plainHush = ">PLAIN\tAGRvdmVhZG0AaHVzaA==\n"
)

func TestDoveadm_TCP(t *testing.T) {
	greeting := []string{version, "<VERSION\tdoveadm-client\t1\t3\n-\n", plainHush, "<+\n"}
	long := strings.Repeat("x", 5000)
	for name, x := range map[string]struct {
		script []string
		known  doveadmDialect
		run    doveadmCommand
		want   doveadmReply
		fault  string // part of the error; "": none
	}{
		"Framed": {
			script: append(greeting, ">\t\twho\t-1\t--\ta\x01tb\n", "<"+frame(0, "a\x01tb\ti")+frame('L', "\x02hallo\n")+frame(0, "")+frame(7, "x")+frame(0, "map\t\n")+frame(0, "+")+frame(0, "\n")),
			run:    doveadmCommand{name: "who", each: true, names: []string{"a\tb"}}, want: doveadmReply{values: []byte("a\x01tb\timap\t")},
		},
		"Unframed": {
			script: []string{version, "<-\n", plainHush, "<+\n", ">\t\tproxy list\n", "<" + long + "\t\n+\n"},
			run:    doveadmCommand{name: "proxy list"}, want: doveadmReply{values: []byte(long + "\t")},
		},
		"NoPassword": {
			script: []string{version, "<VERSION\tdoveadm-client\t1\t0\n+\n", ">\t\tkick\t-h\t::1\t--\t-a\n", "<\n-NOTFOUND\n"},
			run:    doveadmCommand{name: "kick", host: "::1", names: []string{"-a"}}, want: doveadmReply{values: []byte{}, fault: notFound},
		},
		"Fault": {
			script: append(greeting, ">\t\twho\n", "<"+frame('L', "\x04no hush\n\x03well\n\x05no\n")+frame(0, "\n-USAGE\n")),
			run:    doveadmCommand{name: "who"}, want: doveadmReply{values: []byte{}, fault: "USAGE: no hush; no"},
		},
		"Incomplete": {
			script: append(greeting, ">\t\tproxy list\n", "<"+frame('L', "\x04LIST-FULL failed: x\n")+frame(0, "a\t\n+\n")),
			run:    doveadmCommand{name: "proxy list"}, want: doveadmReply{values: []byte("a\t"), fault: "TEMPFAIL: LIST-FULL failed: x"},
		},
		"Failed": {
			script: append(greeting, ">\t\twho\n", "<"+frame(0, "\n-\n")),
			run:    doveadmCommand{name: "who"}, want: doveadmReply{values: []byte{}, fault: "FAILED"},
		},
		"NotAllowed": {
			script: append(greeting, ">\t\twho\n", "<"+frame('L', "\x04doveadm client isn't allowed to use command: who\n")),
			run:    doveadmCommand{name: "who"}, fault: "isn't allowed",
		},
		"Wrong":     {script: []string{version, "<VERSION\tdoveadm-client\t1\t2\n-\n", plainHush, "<-\n"}, fault: "does not take the password"},
		"Version":   {script: []string{version, "<VERSION\tdoveadm-client\t2\t0\n"}, fault: "does not speak"},
		"Minor":     {script: []string{version, "<VERSION\tdoveadm-client\t1\tx\n"}, fault: "does not speak"},
		"LongLine":  {script: []string{version, "<" + long}, fault: "does not speak"},
		"Other":     {script: append(greeting, ">\t\twho\n", "<"+frame(0, "\nx\n")), run: doveadmCommand{name: "who"}, fault: "does not speak"},
		"Hangs up":  {script: []string{version}, fault: "EOF"},
		"LogOnly":   {script: append(greeting, ">\t\twho\n", "<"+frame('L', strings.Repeat("\x04y\n", 2000))+frame('L', strings.Repeat("z", 1000))), run: doveadmCommand{name: "who"}, fault: "y; y; y"},
		"CutOff":    {script: append(greeting, ">\t\twho\n", "<"+frame(0, "a\t")), run: doveadmCommand{name: "who"}, fault: "EOF"},
		"CutFrame":  {script: append(greeting, ">\t\twho\n", "<"+frame(0, "a\t\n+\n")[:6]), run: doveadmCommand{name: "who"}, fault: "EOF"},
		"CutLog":    {script: append(greeting, ">\t\twho\n", "<"+frame('L', "\x04"+long)[:20]), run: doveadmCommand{name: "who"}, fault: "xxxx"},
		"Dialect23": {script: []string{version, "<VERSION\tdoveadm-client\t1\t2\n-\n", plainHush, "<+\n"}, known: doveadm23},
		"Dialect24": {script: greeting, known: doveadm24},
	} {
		t.Run(name, func(t *testing.T) {
			d := serve(t, x.script...)
			if x.known != 0 {
				if got, err := d.wire.dialect(t.Context()); got != x.known || err != nil {
					t.Errorf("dialect %d, want %d; error %v", got, x.known, err)
				}
				return
			}
			replies, err := d.wire.run(t.Context(), []doveadmCommand{x.run})
			switch {
			case x.fault != "":
				if err == nil || !strings.Contains(err.Error(), x.fault) {
					t.Errorf("replies %+v, error %v, want one with %q", replies, err, x.fault)
				}
			case err != nil || len(replies) != 1 || !bytes.Equal(replies[0].values, x.want.values) || replies[0].fault != x.want.fault:
				t.Errorf("replies %+v, want %+v; error %v", replies, x.want, err)
			}
		})
	}
}

// A secret that a server repeats is hidden.
func TestDoveadm_TCPHides(t *testing.T) {
	d := serve(t, version, "<VERSION\tdoveadm-client\t1\t2\n-\n", plainHush, "<+\n", ">\t\tproxy kick\t--\ta\n",
		"<"+frame('L', "\x04it was hush, AGRvdmVhZG0AaHVzaA==\n")+frame(0, "\n-TEMPFAIL\n"))
	d.known, d.until = doveadm23, time.Now().Add(time.Hour)
	err := d.Kick(t.Context(), []string{"a"}, "")
	if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "aHVzaA") || !strings.Contains(err.Error(), "TEMPFAIL: it was [redacted], [redacted]") {
		t.Errorf("error %v", err)
	}
}

// A server that floods is left at 64 MiB, and a silent one when the caller gives up.
func TestDoveadm_TCPBounds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "+\n")
			for err == nil {
				_, err = c.Write(bytes.Repeat([]byte("a\t"), 1<<15))
			}
			c.Close()
		}
	}()
	d, err := NewDoveadm(DoveadmOptions{URL: "tcp:" + l.Addr().String(), Password: proxy.NewSecret("hush"), Role: moves.Proxy, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sessions(t.Context(), nil); err == nil || !strings.Contains(err.Error(), errLongReply.Error()) {
		t.Errorf("a flood: error %v", err)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, url := range []string{"tcp:" + silent.Addr().String(), "http://" + silent.Addr().String()} {
		d, err := NewDoveadm(DoveadmOptions{URL: url, Password: proxy.NewSecret("hush"), Role: moves.Proxy, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		began := time.Now()
		if _, err := d.Sessions(ctx, nil); err == nil || !strings.Contains(err.Error(), "given up") || time.Since(began) > 10*time.Second {
			t.Errorf("%s: error %v after %s", url, err, time.Since(began))
		}
	}
}

// FuzzDoveadmTCP: any bytes of a server, framed or not, are a reply or an error.
func FuzzDoveadmTCP(f *testing.F) {
	f.Add([]byte("a\timap\t\n+\n"))
	f.Add([]byte("\n-NOTFOUND\n"))
	f.Add([]byte(frame('L', "Ex\n") + frame(0, "a\timap\t\n+\n")))
	f.Add([]byte("\x00\xff\xff\xff\xffa\n+\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var log bytes.Buffer
		for _, r := range []*bufio.Reader{
			bufio.NewReader(bytes.NewReader(in)),
			bufio.NewReader(&deframer{r: bufio.NewReader(bytes.NewReader(in)), log: &log}),
		} {
			reply, err := readDoveadmReply(r)
			if err == nil && (bytes.IndexByte(reply.values, '\n') >= 0 || len(reply.values)+2 > len(in)) {
				t.Errorf("reply %+v of %q", reply, in)
			}
		}
		if log.Len() > 2*maxDoveadmLog {
			t.Errorf("%d bytes of log", log.Len())
		}
	})
}
