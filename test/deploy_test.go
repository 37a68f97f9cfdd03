package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"usher/test/servers"
)

// The site file that operators copy, as it stands: nginx takes it.
func TestDeploy_NginxSite(t *testing.T) {
	t.Parallel()
	dir := servers.Dir(t)
	for _, name := range []string{"usher.conf", "usher-site.conf"} {
		text, err := os.ReadFile(servers.Deploy(t, "nginx/"+name))
		if err != nil {
			t.Fatal(err)
		}
		servers.WriteFile(t, string(text), dir, name)
	}
	conf := servers.WriteFile(t, servers.NginxMain(dir, filepath.Join(dir, "usher.conf")), dir, "nginx.conf")
	out, err := exec.Command("nginx", "-t", "-p", dir, "-e", "stderr", "-c", conf).CombinedOutput()
	if err != nil {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
}

// Dovecot's login processes get the socket that deploy/README.md speaks of.
func TestDeploy_Dovecot23(t *testing.T) {
	t.Parallel()
	conf := servers.WriteFile(t, fmt.Sprintf("protocols = imap pop3\nssl = no\n!include %s\n",
		servers.Deploy(t, "dovecot-2.3/usher.conf")), servers.Dir(t), "dovecot.conf")
	for _, service := range []string{"imap-login", "pop3-login"} {
		out, err := exec.Command("doveconf", "-h", "-c", conf, "service/"+service+"/executable").CombinedOutput()
		if err != nil {
			t.Fatalf("doveconf: %v\n%s", err, out)
		}
		if got, want := strings.TrimSpace(string(out)), service+" usher.d/sock"; got != want {
			t.Errorf("%s: executable %q, want %q", service, got, want)
		}
	}
}
