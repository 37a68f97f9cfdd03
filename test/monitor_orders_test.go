package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// What operators order counts for logins at once, outlives usher, and is taken
// back.
func TestMonitor_Orders(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{dovecot: true})
	api := control.NewClient(strings.TrimPrefix(r.usher.Control, "unix:"))
	const host, other = "127.0.0.2", "127.0.0.3"
	at := func(name string) string {
		c := servers.Dial(t, "imap", r.interposed.Addr["imap"])
		if reply := c.Login(name, password); !c.OK(reply) {
			t.Fatalf("login of %s: %s", name, reply)
		}
		return c.Backend()
	}
	// all returns where the eight users of that name are taken.
	all := func(name string) (places map[string][]string) {
		places = map[string][]string{}
		for n := range 8 {
			place := at(user(name, n))
			places[place] = append(places[place], user(name, n))
		}
		return places
	}
	// order gives one, and returns what usher shows of the entries that it names.
	order := func(args ...string) (a control.BackendAnswer) {
		t.Helper()
		out, errs, status := r.usher.Run(t, append([]string{"backend", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &a); err != nil || status != 0 {
			t.Fatalf("usher backend %v: exit status %d, %v: %s%s", args, status, err, out, errs)
		}
		return a
	}
	// shows compares what status says of the entries of host.
	shows := func(admin, takes, why string, weight int) {
		t.Helper()
		s, err := api.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range s.Backends {
			if b.Host == host && (b.Admin != admin || b.Takes != takes || b.Why != why || b.Weight != weight || b.Check != "up") {
				t.Errorf("%s %s: check %s, admin %s, weight %d, takes %s (%s); want up, %s, %d, %s (%s)",
					b.Protocol, b.Backend, b.Check, b.Admin, b.Weight, b.Takes, b.Why, admin, weight, takes, why)
			}
			if b.Host == other && (b.Admin != "up" || b.Takes != "all") {
				t.Errorf("%s: admin %s, takes %s", b.Backend, b.Admin, b.Takes)
			}
		}
	}

	before := all("two")
	if len(before[host]) == 0 || len(before[other]) == 0 {
		t.Fatalf("users are at %v", before)
	}
	mine := before[host][0]
	session := servers.Dial(t, "imap", r.interposed.Addr["imap"])
	expectBackend(t, session, mine, host)

	if a := order("drain", host, "--dry-run"); !a.DryRun || len(a.Backends) != 5 || a.Backends[0].Admin != "drain" || a.Users != len(before[host]) {
		t.Errorf("dry run: %+v", a)
	}
	shows("up", "all", "", 100)
	begin := time.Now()
	order("drain", host, "--reason", "a disk of it")
	shows("drain", "own", "drained", 100)
	if got := session.Backend(); got != host {
		t.Errorf("a session is at %q", got)
	}
	for _, name := range before[host] {
		if got := at(name); got != host {
			t.Errorf("drain: %s, who was at %s, is taken to %s", name, host, got)
		}
	}
	r.each(t, func(t *testing.T, protocol, addr string) {
		expectBackend(t, servers.Dial(t, protocol, addr), mine, host)
	})
	if got := all("three"); len(got[other]) != 8 {
		t.Errorf("drain: new users are taken to %v", got)
	}

	// It stands after a kill -9.
	killed := time.Now()
	r.usher.Kill()
	r.usher.Restart(t)
	shows("drain", "own", "drained", 100)
	s, err := api.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	by := s.Backends[0].AdminBy
	if by == nil || by.By != "root" || by.Reason != "a disk of it" || by.At.After(killed) || by.At.Before(begin.Add(-time.Second)) {
		t.Errorf("after the restart the order is %+v", by)
	}
	if got := all("boom"); len(got[other]) != 8 {
		t.Errorf("drain, after a restart: new users are taken to %v", got)
	}

	order("up", host)
	shows("up", "all", "", 100)
	there := all("none")
	if len(there[host]) == 0 || len(there[other]) == 0 {
		t.Errorf("up: new users are taken to %v", there)
	}

	order("weight", host, "0")
	shows("up", "own", "weight 0", 0)
	if got := all("refuse"); len(got[other]) != 8 {
		t.Errorf("weight 0: new users are taken to %v", got)
	}
	for _, name := range there[host] {
		if got := at(name); got != host {
			t.Errorf("weight 0: %s, who was at %s, is taken to %s", name, host, got)
		}
	}
	order("weight", host, "100")
	shows("up", "all", "", 100)

	order("down", host)
	shows("down", "none", "ordered down", 100)
	for _, name := range there[host] {
		if got := at(name); got != other {
			t.Errorf("down: %s, who was at %s, is taken to %s", name, host, got)
		}
	}
	if a := order("down", other); len(a.Warnings) == 0 || !strings.Contains(strings.Join(a.Warnings, "\n"), "no imap backend takes new users") {
		t.Errorf("both down: warnings %q", a.Warnings)
	}
	r.each(t, func(t *testing.T, protocol, addr string) {
		c := servers.Dial(t, protocol, addr)
		expect(t, protocol, c.Login(user("slow", 0), password), temporary)
	})
	order("up", other)
	order("up", host)
	shows("up", "all", "", 100)

	for _, args := range [][]string{{"drain", "192.0.2.1"}, {"drain", host + ":1"}, {"weight", host, "1001"}, {"weight", host, "x"}, {"drain", "a b"}, {"sideways", host}} {
		if out, errs, status := r.usher.Run(t, append([]string{"backend"}, args...)...); status == 0 || errs == "" {
			t.Errorf("usher backend %v: exit status %d: %s%s", args, status, out, errs)
		}
	}
	t.Run("Garbage", func(t *testing.T) { garbage(t, r.usher) })
	shows("up", "all", "", 100)
}

// garbage says to the control socket what no client of usher's would. Orders stay
// as they are, and usher goes on to answer others.
func garbage(t *testing.T, u *servers.Usher) {
	t.Helper()
	api := control.NewClient(strings.TrimPrefix(u.Control, "unix:"))
	patch := func(target, body string) string {
		return fmt.Sprintf("PATCH /v1/backends/%s HTTP/1.1\r\nHost: usher\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body)
	}
	const host = "127.0.0.2"
	for name, said := range map[string]string{
		"no HTTP":           string(bytes.Repeat([]byte{0, 0xff, '\n', 0x16, 3, 1}, 10000)),
		"a long header":     "GET /v1/status HTTP/1.1\r\nHost: usher\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
		"many headers":      "GET /v1/status HTTP/1.1\r\nHost: usher\r\n" + strings.Repeat("X: y\r\n", 100000) + "\r\n",
		"a path":            patch("..%2f..%2f..%2fetc%2fpasswd", `{"state":"down"}`),
		"a long target":     patch(strings.Repeat("a", 5000), `{"state":"down"}`),
		"no JSON":           patch(host, "\x00\x01state=down"),
		"half of it":        patch(host, `{"state":"do`),
		"another kind":      patch(host, `{"state":{"down":true}}`),
		"an unknown key":    patch(host, `{"state":"down","force":true}`),
		"an unknown state":  patch(host, `{"state":"sideways"}`),
		"a huge weight":     patch(host, `{"weight":1000000000000000000000}`),
		"no such weight":    patch(host, `{"weight":-1}`),
		"nothing":           patch(host, `{}`),
		"a reason for logs": patch(host, `{"state":"down","reason":"\n{\"level\":\"error\"}\u001b[2J"}`),
		"a long reason":     patch(host, `{"state":"down","reason":"`+strings.Repeat("x", 10000)+`"}`),
		"a huge body":       patch(host, `{"state":"down","reason":"`+strings.Repeat("x", 1<<20)+`"}`),
		"another method":    "DELETE /v1/backends/" + host + " HTTP/1.1\r\nHost: usher\r\nConnection: close\r\n\r\n",
		"a silent one":      "PATCH /v1/backends/" + host + " HTTP/1.1\r\nHost: usher\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("unix", strings.TrimPrefix(u.Control, "unix:"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// usher may hang up before all was said.
			_, _ = c.Write([]byte(said))
			if name != "a silent one" {
				reply := make([]byte, 4096)
				n, _ := c.Read(reply)
				if bytes.HasPrefix(reply[:n], []byte("HTTP/1.1 200 ")) {
					t.Errorf("usher says %q", reply[:n])
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			s, err := api.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range s.Backends {
				if b.Admin != "up" || b.Weight != 100 {
					t.Errorf("%s: admin %s, weight %d", b.Backend, b.Admin, b.Weight)
				}
			}
		})
	}
}
