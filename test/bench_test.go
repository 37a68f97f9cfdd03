package test

import (
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/test/servers"
)

// BenchmarkInterposed compares usher with Dovecot's own director before the same
// auth server, in turns: logins a second over eight connections, and usher's
// part of the director's. `direct` is the auth server without either. Plain
// passwords cost the auth server nothing; hashed ones are what it usually has.
//
//	make bench-dovecot
func BenchmarkInterposed(b *testing.B) {
	const conns = 8
	var users strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&users, "u%d@example.org:{PLAIN}secret::::::proxy=y port=143\n", n)
		fmt.Fprintf(&users, "h%d@example.org:%s::::::proxy=y port=143\n", n, hashedSecret)
	}
	d := servers.StartDirector(b, users.String(), "127.0.0.2-127.0.0.5", "")
	dir := servers.Dir(b)
	var inventory strings.Builder
	for n := range 4 {
		ip := fmt.Sprintf("127.0.0.%d", n+2)
		ln, err := net.Listen("tcp", ip+":0")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { ln.Close() })
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: imap, host: %s, port: %s}\n", ip, port)
	}
	servers.StartUsher(b, fmt.Sprintf(`dovecot:
  listeners:
    - {address: "unix:%s/sock", upstream: "unix:%s"}
backend_server_monitoring:
  backend_servers:
%s`, dir, d.Auth, inventory.String()))

	for _, kind := range []struct {
		name        string
		user        string
		outstanding int
		logins      int // of one connection in one round
	}{
		{"plain/outstanding=1", "u", 1, 2000},
		{"plain/outstanding=16", "u", 16, 2000},
		{"hashed/outstanding=16", "h", 16, 50},
	} {
		b.Run(kind.name, func(b *testing.B) {
			ways := map[string][]*servers.AuthClient{}
			for n := range conns {
				ways["director"] = append(ways["director"], servers.DialAuth(b, d.Login, 5000+n))
				ways["usher"] = append(ways["usher"], servers.DialAuth(b, dir+"/sock", 6000+n))
				ways["direct"] = append(ways["direct"], servers.DialAuth(b, d.Auth, 7000+n))
			}
			took, done := map[string]time.Duration{}, 0
			id := 0
			for b.Loop() {
				for _, way := range []string{"usher", "director", "direct"} {
					begin := time.Now()
					var wg sync.WaitGroup
					for _, c := range ways[way] {
						wg.Go(func() { loginAgain(b, c, kind.user, id, kind.logins, kind.outstanding) })
					}
					wg.Wait()
					took[way] += time.Since(begin)
				}
				id += kind.logins
				done += conns * kind.logins
			}
			rate := func(way string) float64 { return float64(done) / took[way].Seconds() }
			for _, way := range []string{"usher", "director", "direct"} {
				b.ReportMetric(rate(way), way+"_logins/s")
			}
			b.ReportMetric(rate("usher")/rate("director"), "usher/director")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// hashedSecret is "secret" by bcrypt, at Dovecot's usual cost.
const hashedSecret = "{BLF-CRYPT}$2y$05$thRdQ/EUh4bn.y0o.lH/0eIusGAG3WOuuCP6bleUztt7W1uzKbO12"

// loginAgain logs users in by one connection, so many in all, and so many at a
// time.
func loginAgain(b *testing.B, c *servers.AuthClient, user string, id, logins, outstanding int) {
	say := func(n int) {
		resp := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "\x00%s%d@example.org\x00secret", user, n%1000))
		c.Say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=imap\tsecured\tsession=s%d\tlip=127.0.0.1\trip=127.0.0.1\tlport=143\trport=4711\tresp=%s", id+n+1, n, resp))
	}
	for n := range outstanding {
		say(n)
	}
	for n := range logins {
		if line := c.Hear(); !strings.HasPrefix(line, "OK\t") {
			b.Errorf("%s", line)
			return
		}
		if n+outstanding < logins {
			say(n + outstanding)
		}
	}
}
