package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/protocol/dovecot"
	"usher/test/servers"
)

const adminVersion = "VERSION\tdirector-doveadm\t1\t0\n"

// An adminRig is a director and a server of usher's, told the same from the
// beginning.
type adminRig struct {
	*servers.Director
	memory *memoryDirector
	usher  string // its socket
}

func startAdminRig(t *testing.T) *adminRig {
	t.Helper()
	r := &adminRig{
		Director: servers.StartDirector(t, "alice@example.org:{PLAIN}secret::::::\nbob@example.org:{PLAIN}secret::::::\n", "127.0.0.2 127.0.0.3@ssd", ""),
		memory:   newMemoryDirector(map[string]string{"127.0.0.2": "", "127.0.0.3": "ssd"}),
		usher:    filepath.Join(servers.Dir(t), "director-admin"),
	}
	s, err := dovecot.NewDirectorAdmin(dovecot.Options{Director: r.memory, Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", r.usher)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func dialAdmin(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// adminTalk says lines, and one that ends every connection, and returns all that
// was answered.
func adminTalk(t *testing.T, socket string, lines ...string) string {
	t.Helper()
	c := dialAdmin(t, socket)
	if _, err := io.WriteString(c, adminVersion+strings.Join(lines, "\n")+"\nBYE\n"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // not all was read
		t.Fatal(err)
	}
	return string(b)
}

// settle waits until the director has moved the user, who is on that host then, and
// tells usher that it is so.
func (r *adminRig) settle(t *testing.T, hash, host string) {
	t.Helper()
	line := "USER-MOVE\t" + hash + "\t" + host
	until(t, func() bool { return adminTalk(t, r.Admin, line) == adminVersion+"OK\n" })
	r.memory.settle()
	if got := adminTalk(t, r.usher, line); got != adminVersion+"OK\n" {
		t.Fatalf("%q: usher answers %q", line, got)
	}
}

// until asks for something that nobody tells, ten times a second.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for range 200 {
		if done() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("it does not come")
}

// What differs between two runs: times, and the director's own port.
var (
	adminTimes = regexp.MustCompile(`\b1[5-9]\d{8}\b|\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b`)
	adminPort  = regexp.MustCompile(`(127\.0\.0\.1[\t ]+)\d+`)
)

func masked(s string) string {
	return adminPort.ReplaceAllString(adminTimes.ReplaceAllString(s, "TIME"), "${1}PORT")
}

// Told the same, usher's server answers byte for byte as the director does.
func TestDirectorAdmin_SameReplies(t *testing.T) {
	t.Parallel()
	r := startAdminRig(t)
	const (
		alice = "4227319470"
		lists = "HOST-LIST|HOST-LIST-REMOVED|DIRECTOR-LIST|USER-LIST|" +
			"USER-LOOKUP\talice@example.org\t|USER-LOOKUP\tAlice@EXAMPLE.org|USER-LOOKUP\t" + alice + "\tssd|USER-LOOKUP\tbob@example.org\tnone|USER-LOOKUP\t42273194700\t"
	)
	for _, tc := range []struct {
		name   string
		says   string // lines with | between them
		settle string // then wait until alice is moved there
	}{
		{"nothing yet", lists, ""},
		{"lists of a host", "USER-LIST\t127.0.0.2|USER-LIST\t127.0.0.77|USER-LIST\t|USER-LIST\t127.0.0.2\tx|HOST-LIST\tx", ""},
		{"add", "HOST-SET\t127.0.0.10\t0|HOST-SET\t127.0.0.11@ssd\t0|HOST-SET\t127.0.0.12@a@b|HOST-SET\t[::1]@c\t1000|HOST-SET\t127.0.0.10\t1001|" + lists, ""},
		{"tag", "HOST-SET\t127.0.0.10@ssd|HOST-SET\t127.0.0.3|HOST-SET\t127.0.0.3@|HOST-SET\t127.0.0.11@ssd\t0|HOST-UPDATE\t127.0.0.3@x\t7", ""},
		{"update", "HOST-UPDATE\t127.0.0.2\t7|HOST-UPDATE\t127.0.0.77\t7|HOST-UPDATE\t127.0.0.77\t7000|HOST-SET\t127.0.0.2\t8\t9|HOST-LIST", ""},
		{"down and up", "HOST-DOWN\t127.0.0.10|HOST-DOWN\t127.0.0.10|HOST-LIST|HOST-UP\t127.0.0.10\tx|HOST-UP\t127.0.0.2|HOST-UP\t127.0.0.77|HOST-DOWN\t127.0.0.77|HOST-LIST", ""},
		{"remove", "HOST-REMOVE\t::1|HOST-REMOVE\t127.0.0.12|HOST-REMOVE\t127.0.0.12|HOST-LIST", ""},
		{"move", "USER-MOVE\t" + alice + "\t127.0.0.10|USER-MOVE\tBob@example.org\t127.0.0.2|USER-MOVE\t" + alice + "\t127.0.0.77|USER-MOVE\t1\t127.0.0.11|" + lists + "|USER-LIST\t127.0.0.10", "127.0.0.10"},
		{"move again", "USER-MOVE\t" + alice + "\t127.0.0.10|USER-MOVE\t" + alice + "\t127.0.0.2|USER-MOVE\t" + alice + "\t127.0.0.10|" + lists, "127.0.0.2"},
		{"move back", "USER-MOVE\t" + alice + "\t127.0.0.10", "127.0.0.10"},
		{"kick", "USER-KICK\talice@example.org|USER-KICK\tbob@example.org\tnowait|USER-KICK\tbob@example.org\tx|USER-KICK-ALT\tfield\tvalue|USER-KICK-ALT\tfield\tvalue\tx", ""},
		{"flush", "HOST-RESET-USERS\t127.0.0.10\t5|HOST-RESET-USERS\t127.0.0.77|" + lists, ""},
		{"flush all", "HOST-RESET-USERS|HOST-RESET-USERS\t\t5|" + lists, ""},
		{"forget", "HOST-FLUSH\t127.0.0.77|HOST-FLUSH\t127.0.0.11|USER-LIST|HOST-FLUSH|USER-LIST|HOST-FLUSH\t127.0.0.2\tx|HOST-FLUSH\t", ""},
		{"remove what is configured", "HOST-REMOVE\t127.0.0.3|HOST-LIST|HOST-LIST-REMOVED|USER-LOOKUP\tbob\tssd|HOST-UP\t127.0.0.3|HOST-SET\t127.0.0.3@new|HOST-LIST|HOST-LIST-REMOVED", ""},
		{"an end with CR", "HOST-LIST\r", ""},
	} {
		if !t.Run(tc.name, func(t *testing.T) {
			lines := strings.Split(tc.says, "|")
			want, got := masked(adminTalk(t, r.Admin, lines...)), masked(adminTalk(t, r.usher, lines...))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-director +usher):\n%s", diff)
			}
		}) {
			break
		}
		if tc.settle != "" {
			r.settle(t, alice, tc.settle)
		}
	}
	for _, line := range []string{
		"host-list", "HOST-SET", "HOST-SET\thost", "HOST-SET\tfe80::1%lo", "HOST-SET\t127.0.0.10\t", "HOST-SET\t127.0.0.10\t-1", "HOST-SET\t127.0.0.10\t5x",
		"HOST-SET\t127.0.0.10\t4294967296", "HOST-UPDATE", "HOST-UPDATE\t127.0.0.10", "HOST-UP", "HOST-DOWN\t", "HOST-REMOVE", "HOST-FLUSH\tx",
		"HOST-RESET-USERS\tx", "HOST-RESET-USERS\t\t0", "HOST-RESET-USERS\t\tx", "HOST-RESET-USERS\t127.0.0.10\tx", "USER-LIST\tx",
		"USER-MOVE", "USER-MOVE\t1", "USER-MOVE\tx\t", "USER-KICK", "USER-KICK-ALT", "USER-KICK-ALT\tfield",
		"DIRECTOR-ADD", "DIRECTOR-ADD\tx", "DIRECTOR-ADD\t127.0.0.1\t0", "DIRECTOR-ADD\t127.0.0.1\t70000", "DIRECTOR-REMOVE", "", "\t", strings.Repeat("x", 9000),
	} {
		for name, socket := range map[string]string{"director": r.Admin, "usher": r.usher} {
			if got := adminTalk(t, socket, line, "HOST-LIST"); got != adminVersion {
				t.Errorf("%.40q: %s answers %q", line, name, got)
			}
		}
	}
}

// `doveadm director` prints the same for usher as for the director.
func TestDirectorAdmin_Doveadm(t *testing.T) {
	t.Parallel()
	r := startAdminRig(t)
	users := servers.WriteFile(t, "alice@example.org\nbob@example.org\n", servers.Dir(t), "users")
	for _, args := range []string{
		"status", "add 127.0.0.10 0", "add 127.0.0.11@ssd 0", "add -t ssd 127.0.0.10", "add 127.0.0.12 2000", "status",
		"status alice@example.org", "status alice@example.org ssd", "status alice@example.org none",
		"-v down 127.0.0.10", "status", "-v up 127.0.0.10", "up 127.0.0.77", "-v update 127.0.0.2 50", "update 127.0.0.77 50",
		"-v move alice@example.org 127.0.0.10", "move alice@example.org 127.0.0.2", "move bob@example.org 127.0.0.77", "move carol 127.0.0.10", "SETTLE",
		"status", "status alice@example.org", "map -f USERS", "map -f USERS 127.0.0.10", "map -f USERS 127.0.0.2", "map -f USERS -h 4227319470", "map 127.0.0.10",
		"-v kick alice@example.org", "-v kick -f field value",
		"-v flush 127.0.0.10", "-v flush --max-parallel 3 all", "map -f USERS", "flush 127.0.0.77", "-v flush -F 127.0.0.2", "-v flush -F all", "map -f USERS",
		"dump", "-v remove 127.0.0.2", "remove 127.0.0.77", "dump", "status", "ring status", "-f tab ring status", "-f tab status",
	} {
		if args == "SETTLE" {
			for _, user := range []string{"alice@example.org", "carol"} {
				r.settle(t, fmt.Sprint(dovecot.DirectorHash(user)), "127.0.0.10")
			}
			continue
		}
		if !t.Run(args, func(t *testing.T) {
			var said [2]string
			for i, socket := range []string{r.Admin, r.usher} {
				argv := doveadmDirector(strings.ReplaceAll(args, "USERS", users), socket)
				stdout, stderr, status := r.Doveadm(t, argv...)
				said[i] = fmt.Sprintf("%s%s\nstatus %d\n", masked(strings.ReplaceAll(stdout, socket, "SOCKET")), stderr, status)
			}
			if diff := cmp.Diff(said[0], said[1]); diff != "" {
				t.Errorf("(-director +usher):\n%s", diff)
			}
		}) {
			break
		}
	}
}

// doveadmDirector puts `director` and the socket where doveadm wants them.
func doveadmDirector(args, socket string) (argv []string) {
	words := strings.Fields(args)
	for strings.HasPrefix(words[0], "-") {
		argv = append(argv, words[0])
		if words[0] == "-f" {
			argv, words = append(argv, words[1]), words[1:]
		}
		words = words[1:]
	}
	argv, words = append(argv, "director", words[0]), words[1:]
	if argv[len(argv)-1] == "ring" {
		argv, words = append(argv, words[0]), words[1:]
	}
	return append(append(argv, "-a", socket), words...)
}

// poolmon's dialogue, as its source has it: a connection for the list, one for each
// thing that it does to a host, and on these it hangs up at once.
func TestDirectorAdmin_Poolmon(t *testing.T) {
	t.Parallel()
	r := startAdminRig(t)
	const want = adminVersion + "127.0.0.2\t100\t0\t\tD\tTIME\n127.0.0.3\t0\t0\tssd\tU\t0\n\n\n"
	for _, socket := range []string{r.Admin, r.usher} {
		adminTalk(t, socket, "USER-MOVE\t4227319470\t127.0.0.2")
		for _, orders := range []string{"HOST-UP\t127.0.0.3\n", "HOST-DOWN\t127.0.0.2\nHOST-FLUSH\t127.0.0.2\n", "HOST-SET\t127.0.0.3\t0\n"} {
			c := dialAdmin(t, socket)
			if _, err := io.WriteString(c, adminVersion); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(adminVersion))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != adminVersion {
				t.Fatalf("greeted with %q: %v", b, err)
			}
			for line := range strings.Lines(orders) {
				if _, err := io.WriteString(c, line); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
		}
		until(t, func() bool { return masked(adminTalk(t, socket, "HOST-LIST", "USER-LIST")) == want })
	}
}
