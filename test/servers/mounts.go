package servers

import (
	"os/exec"
	"testing"
)

// needMounts skips a test of a process that has mounts of its own where that is
// not allowed.
func needMounts(t testing.TB) {
	t.Helper()
	_, errs, status := run(t, "unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt")
	if status != 0 {
		t.Skipf("no right to mount here: %s", errs)
	}
}

// withResolvConf makes cmd see that file as /etc/resolv.conf. Its process becomes
// the program's.
func withResolvConf(path string, cmd *exec.Cmd) *exec.Cmd {
	script := `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	args := append([]string{"--mount", "--propagation", "private", "sh", "-c", script, path}, cmd.Args...)
	return exec.Command("unshare", args...)
}
