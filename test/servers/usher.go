package servers

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Usher is a running `usher serve`.
type Usher struct {
	*Process
	Config  string // path of its configuration
	Control string // unix:PATH
	HTTP    string // ip:port of /metrics, /healthz, /readyz

	common  string   // the part of the configuration that Reconfigure keeps
	env     []string // beside the test's own
	dns     string   // path of its own /etc/resolv.conf
	sockets *Sockets // handed over at each start
}

// StartUsher builds the binary, with the race detector if the tests have it,
// and serves yaml until /readyz says yes. state_dir, log and control are set
// here and must not be in yaml. More args follow those of `usher serve`.
func StartUsher(t testing.TB, yaml string, args ...string) *Usher {
	t.Helper()
	u := newUsher(t, yaml)
	u.start(t, args...)
	return u
}

// UsherOptions are what StartUsherWith can do besides.
type UsherOptions struct {
	Env []string // more variables, each NAME=value
	DNS *DNS     // of StartSystemDNS: the system's own for usher alone
}

// StartUsherWith is StartUsher with more options, and with everything in its log.
func StartUsherWith(t testing.TB, o UsherOptions, yaml string) *Usher {
	t.Helper()
	u := newUsher(t, yaml)
	u.common = strings.Replace(u.common, "level: info", "level: debug", 1)
	u.Reconfigure(t, yaml)
	u.env = o.Env
	if o.DNS != nil {
		host, _ := splitAddr(t, o.DNS.Addr)
		u.dns = WriteFile(t, "nameserver "+host+"\noptions timeout:1 attempts:1\n", filepath.Dir(u.Config), "resolv.conf")
		needMounts(t)
	}
	u.start(t)
	return u
}

func newUsher(t testing.TB, yaml string) *Usher {
	t.Helper()
	dir := Dir(t)
	u := &Usher{
		Control: "unix:" + filepath.Join(dir, "control.sock"),
		HTTP:    Addr(t, "127.0.0.1"),
		Config:  filepath.Join(dir, "usher.yaml"),
	}
	u.common = fmt.Sprintf(`state_dir: %s
log: {level: info, format: json}
control:
  address: %s
  http: %s
`, mkdir(t, 0o700, dir, "state"), u.Control, u.HTTP)
	WriteFile(t, u.common+yaml, u.Config)
	return u
}

func (u *Usher) start(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(Binary(t), append([]string{"serve", "-c", u.Config}, args...)...)
	if u.dns != "" {
		cmd = withResolvConf(u.dns, cmd)
	}
	if u.sockets != nil {
		u.sockets.handOver(cmd)
	}
	if u.env != nil {
		cmd.Env = append(cmd.Environ(), u.env...)
	}
	var p *Process
	// Runs after the clean-up of Start, when usher has ended.
	t.Cleanup(func() {
		if p == nil {
			return // it could not be started
		}
		for _, line := range p.Log.Lines(0) {
			if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic: ") {
				t.Errorf("usher: %s", line)
				p.show()
				return
			}
		}
	})
	p = startCommand(t, "usher", cmd)
	u.Process = p
	u.waitReady(t)
}

// Restart starts usher again, with the same configuration, after it was
// stopped or killed.
func (u *Usher) Restart(t testing.TB) {
	t.Helper()
	u.start(t)
}

// Reconfigure writes another configuration, which a reload will read.
func (u *Usher) Reconfigure(t testing.TB, yaml string) {
	t.Helper()
	WriteFile(t, u.common+yaml, u.Config)
}

// Reload sends SIGHUP. It does not wait: see Logged, or what a login shows.
func (u *Usher) Reload() {
	u.t.Helper()
	u.Signal(syscall.SIGHUP)
}

// Run runs another command of the binary with this usher's configuration and
// returns its output and exit status.
func (u *Usher) Run(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return command(t, append(args, "-c", u.Config)...)
}

// Check runs `usher check` on a configuration and returns what it says and its
// exit status.
func Check(t testing.TB, yaml string) (output string, status int) {
	t.Helper()
	stdout, stderr, status := command(t, "check", "-c", WriteFile(t, yaml, Dir(t), "usher.yaml"))
	return stdout + stderr, status
}

func command(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return run(t, Binary(t), args...)
}

// waitReady asks /readyz until it answers 200.
func (u *Usher) waitReady(t testing.TB) {
	t.Helper()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		resp, err := client.Get("http://" + u.HTTP + "/readyz")
		if err == nil {
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %s", resp.Status)
		}
		select {
		case <-again.C:
		case <-u.Done():
			t.Fatalf("usher ended at its start (exit status %d)", u.Wait(t))
		case <-deadline:
			t.Fatalf("usher is not ready after %s: %v", patience, err)
		}
	}
}

// A Decision is one line of usher's log, see "Log and metrics" of the contract.
type Decision struct {
	Msg     string `json:"msg"`
	Level   string `json:"level"`
	ID      string `json:"id"`
	Adapter string `json:"adapter"`
	Session string `json:"session"`
	Service string `json:"service"`
	User    string `json:"user"`
	RIP     string `json:"rip"`
	LIP     string `json:"lip"`
	TLS     bool   `json:"tls"`
	Mech    string `json:"mech"`
	Outcome string `json:"outcome"`
	Backend string `json:"backend"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
	TookUS  int64  `json:"took_us"`
	Error   string `json:"error"`
}

// parseDecision returns the decision that the line tells, if it does.
func parseDecision(line string) (d Decision, ok bool) {
	err := json.Unmarshal([]byte(line), &d)
	return d, err == nil && d.Msg == "decision"
}

// Decided waits for the first decision on a login from rip, which tells logins apart
// as long as each has a client address of its own.
func (u *Usher) Decided(t testing.TB, rip string) Decision {
	t.Helper()
	var d Decision
	u.Logged(t, 0, "a decision for client "+rip, func(line string) bool {
		var ok bool
		d, ok = parseDecision(line)
		return ok && d.RIP == rip
	})
	return d
}

var binary struct {
	once sync.Once
	dir  string
	err  error
}

var installed = flag.String("usher", "", "test this program instead of building ./cmd/usher")

// Binary builds usher once and returns its path. Main removes it. With the flag
// -usher it returns the program that stands there.
func Binary(t testing.TB) string {
	t.Helper()
	if *installed != "" {
		return *installed
	}
	root := Root(t)
	binary.once.Do(func() {
		if binary.dir, binary.err = openDir(); binary.err != nil {
			return
		}
		args := []string{"build", "-o", binary.dir}
		if raceDetector {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "./cmd/usher")...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("go build ./cmd/usher: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return filepath.Join(binary.dir, "usher")
}

func removeBinary() error {
	if binary.dir == "" {
		return nil
	}
	return os.RemoveAll(binary.dir)
}

// Get fetches a path of the HTTP listener.
func (u *Usher) Get(t testing.TB, path string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + u.HTTP + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer client.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
