package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// A move rig is an usher whose users can be moved: between two backends, behind a
// Dovecot proxy (interposed) and nginx, with the doveadm of all Dovecots.
type moveRig struct {
	usher    *servers.Usher
	backends map[string]*servers.Dovecot // by host
	proxy    *servers.DovecotProxy
	fronts   []*front // the proxy, and nginx unless there is to be none
	dir      string   // of what the hook writes and waits for
}

// newMoveRig starts one. Each name is a user; settings are of `affinity`.
func newMoveRig(t *testing.T, settings string, names ...string) *moveRig {
	t.Helper()
	users := servers.Users{}
	for _, name := range names {
		users[name] = password
	}
	r := &moveRig{backends: map[string]*servers.Dovecot{}, dir: servers.Dir(t)}
	backends, doveadmPort := servers.StartDovecotBackends(t, hosts, users, nil)
	r.proxy = servers.StartDovecotProxy(t, "127.0.0.1", users, fmt.Sprintf("doveadm_port = %d", doveadmPort))
	r.fronts = []*front{{servers.DovecotVersion(t), r.proxy.Addr}}
	// All ways to ask doveadm: tcp with a password, HTTP with it and with a key.
	doveadm := fmt.Sprintf("    - {url: %q, api_key: %q, role: proxy}\n", "http://"+r.proxy.Addr["doveadm_http"], servers.DoveadmKey)
	doveadm += fmt.Sprintf("    - {url: %q, password: %q, role: backend}\n", "tcp:"+backends[0].Addr["doveadm"], servers.DoveadmPassword)
	doveadm += fmt.Sprintf("    - {url: %q, password: %q, role: backend}\n", "http://"+backends[1].Addr["doveadm_http"], servers.DoveadmPassword)
	var inventory strings.Builder
	for i, host := range hosts {
		r.backends[host] = backends[i]
		for _, protocol := range mailProtocols[:2] {
			_, port, err := net.SplitHostPort(backends[i].Addr[protocol])
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&inventory, "    - {protocol: %s, host: %s, port: %s}\n", protocol, host, port)
		}
	}
	authHTTP := servers.Addr(t, "127.0.0.1")
	sockets := servers.OpenSockets(t, map[string]string{"auth": r.proxy.Sock, "notify": r.proxy.Notify, "userdb": r.proxy.Userdb})
	r.usher = servers.StartUsherOn(t, sockets, fmt.Sprintf(`failure_delay: 0s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3]}
dovecot:
  listeners:
    - {address: "fd:auth", upstream: "unix:%s"}
    - {address: "fd:userdb", kind: userdb, upstream: "unix:%s"}
    - {address: "fd:notify", kind: notify}
  doveadm:
%spassdb:
  - {driver: passwd_file, path: %q}
affinity:
  flush_hook: %s
%sbackend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, authHTTP, r.proxy.Upstream, r.proxy.UpstreamUserdb, doveadm, users.Passwd(t, servers.Dir(t), "passwd"),
		r.writeHook(t), settings, inventory.String()))
	if !servers.OnlyDovecot() {
		nginx := servers.StartNginx(t, servers.NginxOptions{AuthHTTP: authHTTP + "/auth"})
		r.fronts = append(r.fronts, &front{"Nginx", nginx.Addr})
	}
	return r
}

// writeHook writes the flush_hook: it notes with what it is run and who has
// sessions at that moment, each in a file of the user's, and waits at a user's
// gate. Where there is a file "blind" it does not look for sessions.
func (r *moveRig) writeHook(t *testing.T) string {
	t.Helper()
	proxied := "proxy list"
	if servers.DovecotVersion(t) != "Dovecot23" {
		proxied = "who -1"
	}
	return servers.WriteProgram(t, fmt.Sprintf(`#!/bin/sh
cd %s || exit 1
echo "$# $1 $2 $3 $USHER_USER $USHER_KEY $USHER_TAG $USHER_FROM $USHER_TO $USHER_MOVE" >>"$1.args"
[ -e blind ] && exit
doveadm -c %s %s >>"$1.sessions" 2>&1
for conf in %s %s; do
	doveadm -c $conf who -1 >>"$1.sessions" 2>&1
done
if [ -p "$1.gate" ]; then
	read -r go <"$1.gate"
fi
exit 0
`, r.dir, r.proxy.Conf(), proxied, r.backends[hosts[0]].Conf(), r.backends[hosts[1]].Conf()), r.dir, "hook")
}

// gate makes the hook wait for the user until open is called, or it is killed.
func (r *moveRig) gate(t *testing.T, user string) (open func()) {
	t.Helper()
	path := filepath.Join(r.dir, user+".gate")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func() {
		if _, err := f.WriteString("go\n"); err != nil {
			t.Error(err)
		}
	}
}

// hooked returns what the hook wrote when a user was moved: its arguments, a line
// for each run, and the users of whom it saw sessions, sorted, each once.
func (r *moveRig) hooked(t *testing.T, user string) (args, sessions []string) {
	t.Helper()
	for name, to := range map[string]*[]string{".args": &args, ".sessions": &sessions} {
		raw, err := os.ReadFile(filepath.Join(r.dir, user+name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			*to = append(*to, strings.TrimSpace(line))
		}
	}
	for i, line := range sessions {
		sessions[i], _, _ = strings.Cut(line, " ")
	}
	slices.Sort(sessions)
	return args, slices.DeleteFunc(slices.Compact(sessions), func(word string) bool { return word == "username" }) // a heading
}

// run runs a command, which must have that exit status, and returns all that it
// says.
func (r *moveRig) run(t *testing.T, status int, args ...string) string {
	t.Helper()
	stdout, stderr, got := r.usher.Run(t, args...)
	if got != status {
		t.Errorf("usher %s: exit status %d, want %d: %s%s", strings.Join(args, " "), got, status, stdout, stderr)
	}
	return stdout + stderr
}

// ask runs a command with --json and reads what it prints.
func (r *moveRig) ask(t *testing.T, v any, args ...string) {
	t.Helper()
	stdout, stderr, status := r.usher.Run(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(stdout), v); err != nil || status != 0 {
		t.Fatalf("usher %s: exit status %d, %v: %s%s", strings.Join(args, " "), status, err, stdout, stderr)
	}
}

// status is what `usher status USER` shows.
func (r *moveRig) status(t *testing.T, user string) (s control.UserStatus) {
	t.Helper()
	r.ask(t, &s, "status", user)
	return s
}

// begin orders a move, and returns when the logins of the user wait.
func (r *moveRig) begin(t *testing.T, user, host string) (m control.Move) {
	t.Helper()
	r.ask(t, &m, "move", user, host, "--detach")
	return m
}

// came waits until a move has come to a state.
func (r *moveRig) came(t *testing.T, id, state string) {
	t.Helper()
	r.usher.Logged(t, 0, "that move "+id+" is "+state, func(line string) bool {
		var l struct{ Msg, ID, State string }
		return json.Unmarshal([]byte(line), &l) == nil && l.Msg == "move" && l.ID == id && l.State == state
	})
}

// home logs a user in, and returns where he is assigned now and where not.
func (r *moveRig) home(t *testing.T, user string) (here, there string) {
	t.Helper()
	c := loggedIn(t, "imap", r.fronts[0].addr["imap"], user)
	here = c.Backend()
	c.Close()
	return here, hosts[1-slices.Index(hosts, here)]
}

// homes logs users in until as many of them live on host, whom it returns.
func (r *moveRig) homes(t *testing.T, host string, count int, users ...string) (found []string) {
	t.Helper()
	for _, u := range users {
		if here, _ := r.home(t, u); here == host {
			if found = append(found, u); len(found) == count {
				return found
			}
		}
	}
	t.Fatalf("the hash took %d of %d users to %s", len(found), len(users), host)
	return nil
}

// sessions logs a user in by every front and protocol: IMAP idles.
func (r *moveRig) sessions(t *testing.T, user string) (all []*servers.Client) {
	t.Helper()
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			c := loggedIn(t, protocol, f.addr[protocol], user)
			if protocol == "imap" {
				c.Idle()
			}
			all = append(all, c)
		}
	}
	return all
}

// expectAlive looks whether what sessions returned goes on at host.
func expectAlive(t *testing.T, all []*servers.Client, host string) {
	t.Helper()
	for _, c := range all {
		if c.Protocol == "imap" {
			if reply := c.Done(); !c.OK(reply) {
				t.Errorf("imap: the end of IDLE: %s", reply)
			}
		}
		if got := c.Backend(); got != host {
			t.Errorf("%s: a session is at %s, want %s", c.Protocol, got, host)
		}
	}
}

// waiting are logins that have been told to wait.
type waiting struct {
	clients []*servers.Client
	ends    []chan string // where each landed, or what it was told
}

// wait begins a login of a user by every front and protocol, and returns when
// usher has held each.
func (r *moveRig) wait(t *testing.T, user, reason string) *waiting {
	t.Helper()
	w := &waiting{}
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			c, end := servers.Dial(t, protocol, f.addr[protocol]), make(chan string, 1)
			w.clients, w.ends = append(w.clients, c), append(w.ends, end)
			go func() {
				reply := servers.Closed
				defer func() { end <- reply }()
				if reply = c.Login(user, password); c.OK(reply) {
					reply = c.Backend()
				}
			}()
		}
	}
	t.Cleanup(func() { // who gave up before must not leave them behind
		for i, c := range w.clients {
			c.Close()
			<-w.ends[i]
		}
	})
	for _, c := range w.clients {
		if d := r.usher.Decided(t, c.IP); d.Outcome != "held" || d.Reason != reason {
			t.Errorf("%s: a login of %s is %s %s, want held %s", c.Protocol, user, d.Outcome, d.Reason, reason)
		}
	}
	return w
}

// told waits for the ends of the logins, in the order of fronts and protocols.
func (w *waiting) told() (all []string) {
	for _, end := range w.ends {
		reply := <-end
		all = append(all, reply)
		end <- reply
	}
	return all
}

// land expects that all logins go on at host, at most that much later.
func (w *waiting) land(t *testing.T, host string, most time.Duration) {
	t.Helper()
	begin := time.Now()
	for i, got := range w.told() {
		if got != host {
			t.Errorf("%s: a login that waited: %q, want %s", w.clients[i].Protocol, got, host)
		}
	}
	if took := time.Since(begin); took > most {
		t.Errorf("logins went on after %s, want %s at most", took, most)
	}
}
