package servers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Process is a server that runs in the foreground as the child of the test
// that started it. Methods that may give up a test take the calling one, which
// may be a subtest.
type Process struct {
	Name string
	Log  Log

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed once it was waited for
}

// Start runs argv in a process group of its own. When the test ends the process
// is stopped, and its log shown if the test failed.
func Start(t testing.TB, name string, argv ...string) *Process {
	t.Helper()
	return startCommand(t, name, exec.Command(argv[0], argv[1:]...))
}

func startCommand(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Name: name, t: t, cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.Log, &p.Log
	// A test binary that dies takes its servers with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// Children that outlive it may keep the log's pipe open.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		// Its error repeats the exit status, or is ErrWaitDelay.
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			p.show()
		}
	})
	return p
}

func (p *Process) show() {
	p.t.Logf("log of %s:", p.Name)
	for _, line := range p.Log.Lines(0) {
		p.t.Logf("  %s| %s", p.Name, line)
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends sig to the process itself.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %v: %v", p.Name, sig, err)
	}
}

// Pause stops the process and its group in their tracks (SIGSTOP), until Resume
// or the end of the test. The kernel goes on to accept connections for them.
func (p *Process) Pause(t testing.TB) {
	t.Helper()
	t.Cleanup(p.Resume) // what is stopped does not end on SIGTERM
	p.signalGroup(syscall.SIGSTOP)
}

// Resume lets it go on. It may be called again.
func (p *Process) Resume() { p.signalGroup(syscall.SIGCONT) }

func (p *Process) signalGroup(sig syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("%s: %v: %v", p.Name, sig, err)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process's end and returns its exit status, -1 after a
// signal. It fails the test when the process goes on.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s still runs after %s", p.Name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop ends the process with SIGTERM and, if that is not enough, its whole
// group with SIGKILL. It may be called again.
func (p *Process) Stop() {
	p.t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s does not end on SIGTERM", p.Name)
		p.Kill()
	}
}

// Kill ends the process and its group with SIGKILL.
func (p *Process) Kill() {
	p.t.Helper()
	p.signalGroup(syscall.SIGKILL)
	<-p.done
}

// Logged waits for a line that match accepts, from line number from on.
func (p *Process) Logged(t testing.TB, from int, what string, match func(line string) bool) string {
	t.Helper()
	return p.Log.Wait(t, p.done, from, what, match)
}

// run runs a program to its end.
func run(t testing.TB, program string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
