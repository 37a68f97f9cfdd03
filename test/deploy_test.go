package test

import (
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
	servers.NeedOthers(t)
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

// The folder for Dovecot that operators copy, site.conf too: Dovecot reads it, and
// its programs ask at the sockets that deploy/README.md speaks of.
func TestDeploy_Dovecot(t *testing.T) {
	t.Parallel()
	settings := servers.DeployedDovecot(t)
	for _, want := range []string{"usher.d/sock", "usher.d/userdb", "usher.d/notify", "user = usher"} {
		if !strings.Contains(settings, want) {
			t.Errorf("no %s in\n%s", want, settings)
		}
	}
}
