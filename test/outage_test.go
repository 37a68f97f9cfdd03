package test

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/test/servers"
)

// A dead usher is nobody's wrong password, and once it is back logins go on
// without a restart of the proxies.
func TestUsherKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua")})
	t.Run("Before", func(t *testing.T) {
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.2")
		})
	})

	// Greeted while usher lives, logging in when it is dead: nginx says that it
	// has a problem, Dovecot lets the client wait until usher is back.
	greeted := map[*front][]*servers.Client{}
	for _, f := range r.fronts {
		for _, protocol := range f.protocols() {
			greeted[f] = append(greeted[f], servers.Dial(t, protocol, f.addr[protocol]))
		}
	}
	r.usher.Kill()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, f := range r.fronts {
		for _, c := range greeted[f] {
			switch {
			case f.name == "Nginx":
				expect(t, c.Protocol, c.Login(user("two", 0), password), internalError)
			case c.Protocol == "imap":
				waiting.Go(func() { expectBackend(t, c, user("two", 0), "127.0.0.2") })
			}
		}
	}

	r.usher.Restart(t)
	r.each(t, func(t *testing.T, protocol, addr string) {
		expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.2")
	})
}

// SIGTERM lets the logins finish that usher is at work on.
func TestSIGTERM_FinishesLogins(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{
		script: testdata(t, "policy.lua"),
		budget: "  timeout: 15s\n  steps: 1000000000\n",
	})
	from := r.usher.Log.Len()
	jobs := []func(){func() {
		begun := 0
		r.usher.Logged(t, from, "that the policy is at work on each login", func(line string) bool {
			if strings.Contains(line, "slow login begins") {
				begun++
			}
			return begun == len(r.fronts)
		})
		r.usher.Signal(syscall.SIGTERM)
	}}
	for _, f := range r.fronts {
		c := servers.Dial(t, "imap", f.addr["imap"])
		jobs = append(jobs, func() { expectBackend(t, c, user("slow", 0), "127.0.0.2") })
	}
	together(jobs...)
	if status := r.usher.Wait(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
}

// A client that never ends its login does not keep usher from ending.
func TestSIGTERM_IdleConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua")})
	for _, f := range r.fronts {
		for _, protocol := range f.protocols() {
			servers.Dial(t, protocol, f.addr[protocol])
		}
	}
	begin := time.Now()
	r.usher.Signal(syscall.SIGTERM)
	if status := r.usher.Wait(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("usher took %s to end with nothing in flight", took)
	}
}
