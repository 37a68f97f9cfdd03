package test

import (
	"testing"

	"usher/test/servers"
)

// A held login waits, and the mail client sees only that it takes longer:
// nginx asks again, Dovecot's answer comes late. A hold that does not end is a
// temporary failure.
func TestHold(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{script: testdata(t, "policy.lua"), more: "limits: {hold: 4s}\n"})

	t.Run("Ends", func(t *testing.T) {
		r.each(t, func(t *testing.T, protocol, addr string) {
			expectBackend(t, servers.Dial(t, protocol, addr), user("wait", 0), "127.0.0.3")
		})
	})
	t.Run("Expires", func(t *testing.T) {
		r.each(t, func(t *testing.T, protocol, addr string) {
			c := servers.Dial(t, protocol, addr)
			expect(t, protocol, c.Login(user("hold", 0), password), temporary)
			if d := r.usher.Decided(t, c.IP); d.Outcome != "held" || d.Reason != "policy" {
				t.Errorf("first decision %s %s, want held policy", d.Outcome, d.Reason)
			}
		})
	})
}
