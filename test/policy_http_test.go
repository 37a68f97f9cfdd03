package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"usher/test/servers"
)

// A directory is an HTTP service that knows the sites of users: the mail of
// two-… is south, that of three-… north.
type directory struct {
	addr    string
	server  *http.Server
	done    chan error
	mute    atomic.Bool // takes requests and says nothing
	failing atomic.Bool
	asked   atomic.Int32
	opened  atomic.Int32 // connections
}

func startDirectory(t *testing.T) *directory {
	t.Helper()
	d := &directory{addr: servers.Addr(t, "127.0.0.1")}
	d.start(t)
	t.Cleanup(d.stop)
	return d
}

func (d *directory) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	d.server = &http.Server{Handler: d, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			d.opened.Add(1)
		}
	}}
	d.done = make(chan error, 1)
	go func(s *http.Server, done chan error) { done <- s.Serve(l) }(d.server, d.done)
}

// stop ends it, with all connections. It may be called again.
func (d *directory) stop() {
	_ = d.server.Close() // what is closed already
	if d.done != nil {
		<-d.done
		d.done = nil
	}
}

func (d *directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.asked.Add(1)
	user, ok := strings.CutPrefix(r.URL.Path, "/users/")
	site := map[string]string{"two": "south", "three": "north"}[strings.Split(user, "-")[0]]
	switch {
	case d.mute.Load():
		<-r.Context().Done()
	case d.failing.Load():
		w.WriteHeader(http.StatusInternalServerError)
	case !ok || site == "":
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprintf(w, `{"user": %q, "site": %q}`, user, site)
	}
}

// A filter asks an HTTP service for the user's site. Whatever becomes of the
// service, nobody hears that the password is wrong but whose is.
func TestPolicy_SiteByHTTP(t *testing.T) {
	t.Parallel()
	dir := startDirectory(t)
	text, err := os.ReadFile(testdata(t, "site_by_http.lua"))
	if err != nil {
		t.Fatal(err)
	}
	script := servers.WriteFile(t, strings.ReplaceAll(string(text), "DIRECTORY/", dir.addr+"/"), servers.Dir(t), "site.lua")
	r := newRig(t, rigOptions{script: script, budget: "  network: true\n"})

	known := func(t *testing.T, protocol, addr string) {
		expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.3")
	}
	later := func(n int) func(t *testing.T, protocol, addr string) {
		return func(t *testing.T, protocol, addr string) {
			c := servers.Dial(t, protocol, addr)
			expect(t, protocol, c.Login(user("three", n), password), temporary)
		}
	}
	t.Run("Up", func(t *testing.T) {
		r.each(t, known)
		if asked, opened := dir.asked.Load(), dir.opened.Load(); asked < 5 || opened >= asked {
			t.Errorf("%d requests, %d connections", asked, opened)
		}
	})
	t.Run("WrongPassword", func(t *testing.T) {
		r.each(t, func(t *testing.T, protocol, addr string) {
			expect(t, protocol, servers.Dial(t, protocol, addr).Login(user("two", 1), "wrong"), wrongPassword)
		})
	})
	t.Run("Mute", func(t *testing.T) {
		dir.mute.Store(true)
		defer dir.mute.Store(false)
		r.each(t, known)
		r.each(t, later(1))
	})
	t.Run("Failing", func(t *testing.T) {
		dir.failing.Store(true)
		defer dir.failing.Store(false)
		r.each(t, known)
		r.each(t, later(2))
	})
	t.Run("Away", func(t *testing.T) {
		dir.stop()
		r.each(t, known)
		r.each(t, later(3))
	})
	t.Run("Back", func(t *testing.T) {
		dir.start(t)
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("three", 3), "127.0.0.2")
		})
	})
}
