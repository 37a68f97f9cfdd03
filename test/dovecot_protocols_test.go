package test

import (
	"testing"

	"usher/test/servers"
)

// Mail submission and ManageSieve are logins as those for mail are: they reach
// the backend that the policy chose, Dovecot's own submission and managesieve
// processes.
func TestDovecot_SubmissionAndSieve(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), dovecot: true})
	for order, host := range map[string]string{"two": "127.0.0.2", "three": "127.0.0.3"} {
		for _, f := range r.fronts {
			for _, protocol := range []string{"submission", "sieve"} {
				t.Run(host+"/"+f.name+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					c := servers.Dial(t, protocol, f.addr[protocol])
					expectBackend(t, c, user(order, 0), host)
					if d := r.usher.Decided(t, c.IP); d.Outcome != "routed" || d.Service != protocol || d.User != user(order, 0) {
						t.Errorf("decision: %+v", d)
					}
				})
			}
		}
	}
}
