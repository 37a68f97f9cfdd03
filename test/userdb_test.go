package test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"usher/test/servers"
)

// mailboxes is a passwd-file that says where mailboxes are.
const mailboxes = `alice@example.org:{PLAIN}secret:1000:1001:Alice A:/mail/alice:/bin/sh:userdb_quota_rule=*:storage=1G userdb_mail=maildir:~/%n userdb_flag proxy port=PORT
bob:{PLAIN}secret:1:2::/mail/bob::userdb_home=/elsewhere user=robert
old:{PLAIN}secret:3:4::/mail/old:::maildir:/x
named:{PLAIN}secret:nobody:nogroup::/mail/named::
locked:!:5:6::/mail/locked::nologin reason=closed
`

func startUserdb(t *testing.T, passdb string) string {
	t.Helper()
	sock := servers.Dir(t) + "/userdb"
	servers.StartUsher(t, fmt.Sprintf(`dovecot:
  listeners:
    - {address: "unix:%s", kind: userdb}
passdb:
%sdirector:
  script: %q
`, sock, passdb, servers.WriteFile(t, `function nauthilus_call_filter(request)
	local backend = require("nauthilus_backend")
	backend.select_backend_server("127.0.0.2", 10024)
	return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
`, servers.Dir(t), "policy.lua")))
	return sock
}

// answer returns the fields of the answer to one look-up, sorted.
func answer(c *servers.AuthClient, line string) string {
	c.Say(line)
	fields := strings.Split(c.Hear(), "\t")
	slices.Sort(fields[min(3, len(fields)):])
	return strings.Join(fields, " ")
}

func names(c *servers.AuthClient, line string) (users []string, end string) {
	c.Say(line)
	for {
		l := c.Hear()
		name, ok := strings.CutPrefix(l, "LIST\t1\t")
		if !ok {
			slices.Sort(users)
			return users, l
		}
		users = append(users, name)
	}
}

// usher by itself says of a mailbox what Dovecot's auth says of the same file.
func TestUserdb_AsDovecot(t *testing.T) {
	t.Parallel()
	path := servers.WriteFile(t, mailboxes, servers.Dir(t), "passwd")
	usher := servers.DialUserdb(t, startUserdb(t, fmt.Sprintf("  - {driver: passwd_file, path: %q}\n", path)))
	auth := servers.DialUserdb(t, servers.StartDirector(t, mailboxes, "127.0.0.2", "").AuthUser)
	for _, user := range []string{"alice@example.org", "Alice@Example.ORG", "bob", "old", "named", "locked", "nobody"} {
		for n, service := range []string{"lmtp", "doveadm"} {
			line := fmt.Sprintf("USER\t%d\t%s\tservice=%s", n+1, user, service)
			if got, want := answer(usher, line), answer(auth, line); got != want {
				t.Errorf("USER %s:\n usher   %q\n dovecot %q", user, got, want)
			}
		}
	}
	for _, line := range []string{"LIST\t1", "LIST\t1\tuser=*", "LIST\t1\tservice=doveadm"} {
		got, end := names(usher, line)
		want, wantEnd := names(auth, line)
		if !slices.Equal(got, want) || end != wantEnd || len(got) != 5 {
			t.Errorf("%q:\n usher   %q %q\n dovecot %q %q", line, got, end, want, wantEnd)
		}
	}
	if got, end := names(usher, "LIST\t1\tuser=*O?*"); !slices.Equal(got, []string{"alice@example.org", "bob", "locked", "old"}) || end != "DONE\t1\t" {
		t.Errorf("LIST of a mask: %q, %q", got, end)
	}
}

func TestUserdb_Pass(t *testing.T) {
	t.Parallel()
	path := servers.WriteFile(t, mailboxes, servers.Dir(t), "passwd")
	c := servers.DialUserdb(t, startUserdb(t, fmt.Sprintf("  - {driver: passwd_file, path: %q}\n", path)))
	for user, want := range map[string]string{
		"bob":    "PASS 1 user=robert host=127.0.0.2 port=10024 proxy proxy_refresh=450",
		"locked": "PASS 1 user=locked host=127.0.0.2 port=10024 proxy proxy_refresh=450",
		"nobody": "NOTFOUND 1",
	} {
		if got := answer(c, fmt.Sprintf("PASS\t1\t%s\tservice=lmtp\tlip=127.0.0.1", user)); got != want {
			t.Errorf("PASS %s: %q, want %q", user, got, want)
		}
	}
}

// Where the backends verify, each name may be a user's: nothing bounces, and
// nothing is claimed of mailboxes.
func TestUserdb_Passthrough(t *testing.T) {
	t.Parallel()
	c := servers.DialUserdb(t, startUserdb(t, "  - {driver: passthrough}\n"))
	for line, want := range map[string]string{
		"PASS\t1\tanybody\tservice=lmtp": "PASS 1 user=anybody host=127.0.0.2 port=10024 proxy proxy_refresh=450",
		"USER\t1\tanybody\tservice=lmtp": "FAIL 1 code=temp_fail reason=no password driver of usher knows mailboxes",
		"LIST\t1":                        "DONE 1 fail",
	} {
		if got := answer(c, line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// Dovecot's own client reads the answers.
func TestUserdb_Doveadm(t *testing.T) {
	t.Parallel()
	servers.NeedDovecot23(t) // the configuration below is 2.3's
	path := servers.WriteFile(t, mailboxes, servers.Dir(t), "passwd")
	sock := startUserdb(t, fmt.Sprintf("  - {driver: passwd_file, path: %q}\n", path))
	conf := servers.WriteFile(t, "ssl = no\nlog_path = /dev/stderr\nfirst_valid_uid = 1\n", servers.Dir(t), "dovecot.conf")
	run := func(args ...string) string {
		out, err := exec.Command("doveadm", append([]string{"-c", conf}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("doveadm %v: %v: %s", args, err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	if got, want := run("user", "-a", sock, "*"), []string{"alice@example.org", "bob", "locked", "named", "old"}; len(strings.Fields(got)) != len(want) {
		t.Errorf("doveadm user '*': %q, want %q", got, want)
	}
	if got := run("user", "-a", sock, "bob"); !strings.Contains(got, "uid 1 gid 2 home /elsewhere") {
		t.Errorf("doveadm user bob: %q", got)
	}
	if got := run("auth", "lookup", "-a", sock, "-x", "service=lmtp", "bob"); !strings.Contains(got, "user : robert") || !strings.Contains(got, "host : 127.0.0.2") {
		t.Errorf("doveadm auth lookup bob: %q", got)
	}
}
