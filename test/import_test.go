package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"usher/test/servers"
)

// TestImportDirector: what the real doveconf prints of the golden files'
// dovecot.conf is what they hold, and usher takes what import-director makes of
// it. doveconf -a and the dovecot.conf itself lead to the same.
func TestImportDirector(t *testing.T) {
	t.Parallel()
	servers.NeedDovecot23(t)
	names, err := filepath.Glob("../config/importdirector/testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no golden files:", err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, f := range archive.Files {
			files[f.Name] = string(f.Data)
		}
		if files["dovecot.conf"] == "" || files["error"] != "" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			dir := servers.Dir(t)
			conf := servers.WriteFile(t, files["dovecot.conf"], dir, "dovecot.conf")
			changed := doveconf(t, "-n", conf)
			if diff := cmp.Diff(bare(files["in"]), bare(changed)); diff != "" {
				t.Errorf("the golden file's input is not what doveconf -n prints (-golden +doveconf):\n%s", diff)
			}
			yaml := importDirector(t, changed)
			for how, input := range map[string]string{"doveconf -a": doveconf(t, "-a", conf), "dovecot.conf": files["dovecot.conf"]} {
				if diff := cmp.Diff(bare(yaml), bare(importDirector(t, input))); diff != "" {
					t.Errorf("another usher.yaml (-doveconf -n +%s):\n%s", how, diff)
				}
			}
			path := servers.WriteFile(t, yaml, dir, "usher.yaml")
			if out, err := exec.Command(servers.Binary(t), "check", "-c", path).CombinedOutput(); err != nil {
				t.Errorf("usher check: %v\n%s\n%s", err, out, yaml)
			}
		})
	}
}

// The Dovecot settings of docs/migrate-from-director.md, all together, are
// settings that Dovecot 2.3 takes.
func TestMigrateDoc_Settings(t *testing.T) {
	t.Parallel()
	servers.NeedDovecot23(t)
	page, err := os.ReadFile("../docs/migrate-from-director.md")
	if err != nil {
		t.Fatal(err)
	}
	var conf strings.Builder
	inside := false
	for line := range strings.Lines(string(page)) {
		text := strings.TrimSpace(line)
		if strings.HasSuffix(text, " {") || strings.HasPrefix(text, "login_proxy_notify_path = ") {
			inside = true
		}
		if inside = inside && strings.HasPrefix(line, "  ") && text != "" && text != "```"; inside {
			conf.WriteString(text + "\n")
		}
	}
	for _, want := range []string{"service imap-login {", "service auth {", "protocol lmtp {", "protocol imap {", "noauthenticate", "\nlogin_proxy_notify_path = "} {
		if !strings.Contains(conf.String(), want) {
			t.Errorf("the page has no %s", want)
		}
	}
	path := servers.WriteFile(t, "protocols = imap pop3 lmtp\nssl = no\n"+conf.String(), servers.Dir(t), "dovecot.conf")
	out, err := exec.Command("doveconf", "-n", "-c", path).CombinedOutput()
	if err != nil {
		t.Errorf("doveconf: %v\n%s\n%s", err, out, conf.String())
	}
}

// doveconf returns what it prints of a configuration. It complains of what a
// test's has not (certificates, users), so only its output counts.
func doveconf(t *testing.T, flag, conf string) string {
	t.Helper()
	out, err := exec.Command("doveconf", flag, "-c", conf).Output()
	if len(out) == 0 {
		t.Fatalf("doveconf %s: %v", flag, err)
	}
	return string(out)
}

func importDirector(t *testing.T, input string) string {
	t.Helper()
	var errOut bytes.Buffer
	c := exec.Command(servers.Binary(t), "import-director", "-")
	c.Stdin, c.Stderr = strings.NewReader(input), &errOut
	out, err := c.Output()
	if err != nil {
		t.Fatalf("usher import-director: %v\n%s", err, errOut.Bytes())
	}
	return string(out)
}

// bare is a text without its comments, which name hosts, paths and lines.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
	}
	return b.String()
}
