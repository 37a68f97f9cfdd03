package servers

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Sockets are what a service manager holds open for usher: sockets and FIFOs by
// name, while usher comes and goes.
type Sockets struct {
	names []string
	files []*os.File
}

// OpenSockets opens what the units deploy/systemd/usher-NAME.socket say, as
// systemd does (socket.c): a socket listens, a FIFO is opened for reading and
// writing. paths has the place of each ListenStream= and ListenFIFO= in the test.
// They are closed when the test ends.
func OpenSockets(t testing.TB, paths map[string]string) *Sockets {
	t.Helper()
	s := &Sockets{}
	for name, path := range paths {
		unit := readUnit(t, Deploy(t, "systemd/usher-"+name+".socket"))
		mode, err := strconv.ParseUint(unit["SocketMode"], 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		var f *os.File
		switch {
		case unit["ListenStream"] != "":
			f = listenStream(t, path)
		case unit["ListenFIFO"] != "":
			f = openFIFO(t, path)
		default:
			t.Fatalf("usher-%s.socket listens at nothing", name)
		}
		t.Cleanup(func() { f.Close() })
		if err := os.Chmod(path, fs.FileMode(mode)); err != nil {
			t.Fatal(err)
		}
		s.names, s.files = append(s.names, unit["FileDescriptorName"]), append(s.files, f)
	}
	return s
}

func listenStream(t testing.TB, path string) *os.File {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func openFIFO(t testing.TB, path string) *os.File {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// readUnit reads the settings of a unit file; the last of a name counts.
func readUnit(t testing.TB, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			unit[name] = value
		}
	}
	return unit
}

// handOver makes cmd a process that the sockets are handed over to
// (sd_listen_fds(3)): LISTEN_PID is its own, so a shell sets it and becomes it.
func (s *Sockets) handOver(cmd *exec.Cmd) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		shell = "/bin/sh"
	}
	cmd.Args = append([]string{shell, "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, cmd.Args...)
	cmd.Args[3], cmd.Path = cmd.Path, shell
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(s.files)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	cmd.ExtraFiles = s.files
}

// StartUsherOn is StartUsher with sockets handed over; yaml has `fd:NAME`.
func StartUsherOn(t testing.TB, s *Sockets, yaml string) *Usher {
	t.Helper()
	u := newUsher(t, yaml)
	u.sockets = s
	u.start(t)
	return u
}
