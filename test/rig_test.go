package test

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"usher/test/servers"
)

const password = "correct horse"

// people are the users that every rig knows; what the policy does with them is
// in testdata/policy.lua.
var people = func() servers.Users {
	u := servers.Users{}
	for _, order := range []string{"two", "three", "boom", "none", "refuse", "slow", "hold", "wait"} {
		for n := range 8 {
			u[user(order, n)] = password
		}
	}
	return u
}()

func user(order string, n int) string { return fmt.Sprintf("%s-%d@example.org", order, n) }

// A front is one mail proxy that asks the rig's usher.
type front struct {
	name string
	addr map[string]string // protocol: ip:port
}

// protocols returns those that users log in by, in a fixed order.
func (f *front) protocols() []string {
	var out []string
	for _, protocol := range []string{"imap", "pop3", "smtp", "submission", "sieve"} {
		if f.addr[protocol] != "" {
			out = append(out, protocol)
		}
	}
	return out
}

// A rig is one usher with backends behind it and all kinds of mail proxies in
// front of it.
type rig struct {
	usher    *servers.Usher
	backends map[string]*servers.Dovecot // by host; none when they are down
	fronts   []*front
	yaml     string // of usher

	// Two of the fronts.
	interposed, standalone *servers.DovecotProxy
}

type rigOptions struct {
	others  servers.Users // besides people; without a message
	script  string        // path; "": the built-in policy
	down    bool          // the configured backends' ports are closed
	more    string        // YAML at the end of usher's configuration
	budget  string        // more keys of `director`
	dovecot bool          // no nginx: submission ends at Dovecot's own, not at a sink
	proxies []string      // more settings of the Dovecot proxies
}

var (
	// hosts are the backends of every rig, each with all of mailProtocols and
	// what Dovecot proxies have besides.
	hosts         = []string{"127.0.0.2", "127.0.0.3"}
	mailProtocols = []string{"imap", "pop3", "smtp"}
)

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	o.dovecot = o.dovecot || servers.OnlyDovecot()
	r := &rig{backends: map[string]*servers.Dovecot{}}
	inventory, doveadmPort := r.startBackends(t, o)
	o.proxies = append(o.proxies, fmt.Sprintf("doveadm_port = %d", doveadmPort))
	users := maps.Clone(people)
	maps.Copy(users, o.others)
	r.interposed = servers.StartDovecotProxy(t, "127.0.0.1", users, o.proxies...)
	r.standalone = servers.StartDovecotProxy(t, "127.0.0.1", nil, o.proxies...)
	version := servers.DovecotVersion(t)
	r.fronts = []*front{
		{version + "_Interposed", r.interposed.Addr},
		{version + "_Standalone", r.standalone.Addr},
	}
	authHTTP := servers.Addr(t, "127.0.0.1")
	r.yaml = fmt.Sprintf(`failure_delay: 0s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3, smtp]}
dovecot:
  listeners:
%s%spassdb:
  - {driver: passwd_file, path: %q}
director:
  script: %q
  unlisted_backends: deny
%sbackend_server_monitoring:
  interval: 1s
  fall: 1
  backend_servers:
%s%s`, authHTTP, interposedAt(r.interposed), standaloneAt(r.standalone),
		users.Passwd(t, servers.Dir(t), "passwd"), o.script, o.budget, inventory, o.more)
	r.usher = servers.StartUsher(t, r.yaml)
	t.Cleanup(func() {
		for _, line := range r.usher.Log.Lines(0) {
			if strings.Contains(line, password) {
				t.Errorf("a password is in usher's log: %s", line)
			}
		}
	})
	if !o.dovecot {
		nginx := servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"})
		r.fronts = slices.Insert(r.fronts, 0, &front{"Nginx", nginx.Addr})
	}
	return r
}

// interposedAt is usher's listeners between a proxy and its auth process, and
// standaloneAt those instead of that: items of dovecot.listeners.
func interposedAt(p *servers.DovecotProxy) string {
	return fmt.Sprintf(`    - {address: "unix:%s", kind: auth, upstream: "unix:%s"}
    - {address: "unix:%s", kind: userdb, upstream: "unix:%s"}
    - {address: "unix:%s", kind: notify}
`, p.Sock, p.Upstream, p.Userdb, p.UpstreamUserdb, p.Notify)
}

func standaloneAt(p *servers.DovecotProxy) string {
	return fmt.Sprintf(`    - {address: "unix:%s", kind: auth}
    - {address: "unix:%s", kind: userdb}
    - {address: "unix:%s", kind: notify}
`, p.Sock, p.Userdb, p.Notify)
}

// startBackends runs what serves at hosts, and returns its entries in the
// inventory.
func (r *rig) startBackends(t *testing.T, o rigOptions) (inventory string, doveadmPort int) {
	t.Helper()
	if !o.down {
		var backends []*servers.Dovecot
		backends, doveadmPort = servers.StartDovecotBackends(t, hosts, people, o.others)
		for i, host := range hosts {
			r.backends[host] = backends[i]
		}
	}
	var b strings.Builder
	for _, host := range hosts {
		for _, protocol := range []string{"imap", "pop3", "smtp", "sieve", "lmtp"} {
			var addr string
			switch {
			case o.down:
				addr = servers.Addr(t, host)
			case protocol != "smtp":
				addr = r.backends[host].Addr[protocol]
			case o.dovecot:
				addr = r.backends[host].Addr["submission"]
			default:
				addr = servers.StartSMTPSink(t, host).Addr
			}
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "    - {protocol: %s, host: %s, port: %s}\n", protocol, host, port)
		}
	}
	return b.String(), doveadmPort
}

// each runs f in parallel for every front and protocol, and returns when all
// are through.
func (r *rig) each(t *testing.T, f func(t *testing.T, protocol, addr string)) {
	t.Helper()
	t.Run("each", func(t *testing.T) {
		for _, fr := range r.fronts {
			for _, protocol := range fr.protocols() {
				t.Run(fr.name+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					f(t, protocol, fr.addr[protocol])
				})
			}
		}
	})
}

// together runs all jobs at the same time and waits for them. Parallel subtests
// are no substitute: how many of them run depends on -parallel. A job that gives
// up its test ends alone.
func together(jobs ...func()) {
	var wg sync.WaitGroup
	for _, job := range jobs {
		wg.Go(job)
	}
	wg.Wait()
}

// replies are patterns of what mail clients are told, by protocol.
type replies map[string]*regexp.Regexp

var (
	temporary = replies{
		"imap":       regexp.MustCompile(`^NO \[UNAVAILABLE\] `),
		"pop3":       regexp.MustCompile(`^-ERR \[SYS/TEMP\] `),
		"smtp":       regexp.MustCompile(`^454 4\.7\.0 `),
		"submission": regexp.MustCompile(`^454 4\.7\.0 `),
		"sieve":      regexp.MustCompile(`^NO \(TRYLATER\) `),
	}
	wrongPassword = replies{
		"imap":       regexp.MustCompile(`^NO \[AUTHENTICATIONFAILED\] `),
		"pop3":       regexp.MustCompile(`^-ERR \[AUTH\] `),
		"smtp":       regexp.MustCompile(`^535 5\.7\.[08] `),
		"submission": regexp.MustCompile(`^535 5\.7\.8 `),
		"sieve":      regexp.MustCompile(`^NO "`),
	}
	// What the policy says to refuse-7. By IMAP clients show it because of ALERT.
	refusedWithText = replies{
		"imap":       regexp.MustCompile(`^NO \[(ALERT|AUTHENTICATIONFAILED)\] Moved to mail\.example\.net$`),
		"pop3":       regexp.MustCompile(`^-ERR \[AUTH\] Moved to mail\.example\.net$`),
		"smtp":       regexp.MustCompile(`^535 5\.7\.[08] Moved to mail\.example\.net$`),
		"submission": regexp.MustCompile(`^535 5\.7\.8 Moved to mail\.example\.net$`),
		"sieve":      regexp.MustCompile(`^NO "Moved to mail\.example\.net"$`),
	}
	// nginx's own words when usher does not answer as it should.
	internalError = replies{
		"imap": regexp.MustCompile(`^\* BAD internal server error`),
		"pop3": regexp.MustCompile(`^-ERR internal server error`),
		"smtp": regexp.MustCompile(`^451 4\.3\.2 Internal server error`),
	}
)

// expect compares a reply with what the protocol's clients should be told.
func expect(t *testing.T, protocol, reply string, want replies) {
	t.Helper()
	if !want[protocol].MatchString(reply) {
		t.Errorf("%s: got %q, want a match of %s", protocol, reply, want[protocol])
	}
}

// expectBackend logs in and compares where the client got.
func expectBackend(t *testing.T, c *servers.Client, user, want string) {
	t.Helper()
	reply := c.Login(user, password)
	if !c.OK(reply) {
		t.Fatalf("%s: login of %s: %s", c.Protocol, user, reply)
	}
	if got := c.Backend(); got != want {
		t.Errorf("%s: %s is logged in at %s, want %s", c.Protocol, user, got, want)
	}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
