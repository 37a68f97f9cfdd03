package servers

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var onlyDovecot = flag.Bool("only-dovecot", false, "no server but Dovecot is here: skip the tests that start another")

// OnlyDovecot reports that servers other than Dovecot are not to be run.
func OnlyDovecot() bool { return *onlyDovecot }

// NeedOthers skips a test that starts another server than Dovecot when there is
// to be none.
func NeedOthers(t testing.TB) {
	t.Helper()
	if OnlyDovecot() {
		t.Skip("-only-dovecot")
	}
}

// NeedDovecot23 skips a test of what Dovecot 2.3 alone has.
func NeedDovecot23(t testing.TB) {
	t.Helper()
	if v := DovecotVersion(t); v != dovecot23.name {
		t.Skipf("of Dovecot 2.3, this is %s", v)
	}
}

// Main runs the tests of a package that uses this one. It is the body of
// TestMain. A missing program is a failure, never a skip: a test that nobody
// runs proves nothing.
func Main(m *testing.M) int {
	flag.Parse()
	if err := check(); err != nil {
		fmt.Fprintf(os.Stderr, "end-to-end tests: %v\n", err)
		return 1
	}
	// The tests wait for servers more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintf(os.Stderr, "end-to-end tests: %v\n", err)
		return 1
	}
	// A program with the race detector waits a second before it ends, for other
	// threads to report; the tests run it hundreds of times.
	if os.Getenv("GORACE") == "" {
		if err := os.Setenv("GORACE", "atexit_sleep_ms=50"); err != nil {
			fmt.Fprintf(os.Stderr, "end-to-end tests: %v\n", err)
			return 1
		}
	}
	code := m.Run()
	if err := removeBinary(); err != nil {
		fmt.Fprintf(os.Stderr, "end-to-end tests: %v\n", err)
		return 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintf(os.Stderr, "end-to-end tests: %v\n", err)
			return 1
		}
	}
	return code
}

func check() error {
	if os.Getuid() != 0 {
		return fmt.Errorf("need root: Dovecot's login processes run as users of their own")
	}
	for _, need := range []struct{ program, pkg string }{
		{"nginx", "nginx"},
		{"dovecot", "dovecot-core"},
		{"/usr/lib/dovecot/imap-login", "dovecot-imapd"},
		{"/usr/lib/dovecot/pop3-login", "dovecot-pop3d"},
		{"/usr/lib/dovecot/lmtp", "dovecot-lmtpd"},
		{"/usr/lib/dovecot/managesieve-login", "dovecot-managesieved"},
		{"/usr/lib/dovecot/submission-login", "dovecot-submissiond"},
		{"postfix", "postfix"},
		{postfixMaster, "postfix"},
		{exim, "exim4-daemon-heavy"},
	} {
		if OnlyDovecot() && !strings.HasPrefix(need.pkg, "dovecot-") {
			continue
		}
		if _, err := exec.LookPath(need.program); err != nil {
			return fmt.Errorf("%s is missing: run test/install-deps.sh, or install %s", need.program, need.pkg)
		}
	}
	if redisProgram() == "" {
		return fmt.Errorf("neither redis-server nor valkey-server is here: run test/install-deps.sh, or install redis-server")
	}
	return nil
}
