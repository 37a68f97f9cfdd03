package monitor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"usher/test/servers"
)

func TestUntilNext(t *testing.T) {
	const refresh = 30 * time.Second
	tests := []struct {
		name         string
		ttl, refresh time.Duration
		failed       bool
		from, to     time.Duration
	}{
		{"a minute", time.Minute, refresh, false, time.Minute, 66 * time.Second},
		{"longer than refresh or not", 10 * time.Minute, refresh, false, 10 * time.Minute, 11 * time.Minute},
		{"less than a second", time.Millisecond, refresh, false, time.Second, 1100 * time.Millisecond},
		{"a week", 7 * 24 * time.Hour, refresh, false, time.Hour, 66 * time.Minute},
		{"none", 0, refresh, false, 27 * time.Second, 33 * time.Second},
		{"failed", time.Minute, refresh, true, 4500 * time.Millisecond, 5500 * time.Millisecond},
		{"failed, a short refresh", 0, time.Second, true, 900 * time.Millisecond, 1100 * time.Millisecond},
	}
	for _, tt := range tests {
		for range 1000 {
			if got := untilNext(tt.ttl, tt.refresh, tt.failed); got < tt.from || got > tt.to {
				t.Fatalf("%s: %s, want %s to %s", tt.name, got, tt.from, tt.to)
			}
		}
	}
}

func TestNameServers_Addresses(t *testing.T) {
	dns := servers.StartDNS(t,
		"a.example.org. 300 A 192.0.2.1", "a.example.org. 200 AAAA 2001:db8::1",
		"alias.example.org. 50 CNAME far.example.org.", "far.example.org. 40 CNAME a.example.org.",
		"short.example.org. 7 CNAME a.example.org.",
		"zero.example.org. 0 A 192.0.2.2",
		"signed.example.org. 4294967295 A 192.0.2.3",
		"tcp.example.org. 90 A 192.0.2.4",
		"cut.example.org. 80 A 192.0.2.5",
		"text.example.org. 9 TXT no address here")
	dns.ModeOf("tcp.example.org.", servers.DNSTruncates)
	dns.ModeOf("cut.example.org.", servers.DNSHangsUp)
	dns.ModeOf("fails.example.org.", servers.DNSServfail)
	tests := []struct {
		host string
		want string // of IPv4
		ttl  time.Duration
	}{
		{"a.example.org.", "192.0.2.1", 200 * time.Second},
		{"alias.example.org.", "192.0.2.1", 40 * time.Second},
		{"short.example.org.", "192.0.2.1", 7 * time.Second},
		{"zero.example.org.", "192.0.2.2", time.Second},
		{"signed.example.org.", "192.0.2.3", time.Second},
		{"tcp.example.org.", "192.0.2.4", 90 * time.Second},
		{"cut.example.org.", "", 0},
		{"text.example.org.", "", 0},
		{"none.example.org.", "", 0},
		{"fails.example.org.", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			addrs, ttl, err := nameServers{dns.Addr}.addresses(ctx, tt.host)
			got := ""
			for _, a := range addrs {
				if a = a.Unmap(); a.Is4() {
					got = a.String()
				}
			}
			if got != tt.want || ttl != tt.ttl || (err == nil) != (tt.want != "") {
				t.Errorf("%q for %s, %v; want %q for %s", got, ttl, err, tt.want, tt.ttl)
			}
		})
	}
}

// The next name server is asked if one is silent or broken, not if it knows that
// there is no such name.
func TestNameServers_Order(t *testing.T) {
	t.Parallel()
	first, second := servers.StartDNS(t, "a.example.org. 20 A 192.0.2.1"), servers.StartDNS(t, "a.example.org. 30 A 192.0.2.2")
	for _, tt := range []struct {
		mode servers.DNSMode
		ttl  time.Duration
	}{
		{servers.DNSAnswers, 20 * time.Second},
		{servers.DNSSilent, 30 * time.Second},
		{servers.DNSServfail, 30 * time.Second},
		{servers.DNSHangsUp, 30 * time.Second},
		{servers.DNSNXDomain, 0},
	} {
		first.Mode(tt.mode)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, ttl, err := nameServers{first.Addr, second.Addr}.addresses(ctx, "a.example.org.")
		cancel()
		if ttl != tt.ttl || (err == nil) != (tt.ttl > 0) {
			t.Errorf("mode %d: %s, %v; want %s", tt.mode, ttl, err, tt.ttl)
		}
	}
	if asked := len(second.Asked()); asked < 6 {
		t.Errorf("the second was asked %d times", asked)
	}
	_, _, err := nameServers{first.Addr}.addresses(t.Context(), "a.example.org.")
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
		t.Errorf("%v", err)
	}
}

// What a stranger sends in the name server's place, without the question's
// number, says nothing of the TTL.
func TestTTLReader_ForgedNumber(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			id := m.ID
			for _, ttl := range []uint32{1, 60} {
				m.ID = id + 1
				if ttl == 60 {
					m.ID = id
				}
				_, _ = conn.WriteTo(message(t, m.ID, m.Questions[0], ttl), from)
			}
		}
	}()
	_, ttl, err := nameServers{conn.LocalAddr().String()}.addresses(t.Context(), "a.example.org.")
	if ttl != time.Minute || err != nil {
		t.Errorf("%s, %v", ttl, err)
	}
	_ = conn.Close()
	<-done
}

// message is an answer with an A record of each TTL.
func message(tb testing.TB, id uint16, q dnsmessage.Question, ttls ...uint32) []byte {
	tb.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	for _, ttl := range ttls {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		})
	}
	out, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func questionA(name string) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
}

// pieces is a connection that gives out a stream as its Reader likes.
type pieces struct {
	net.Conn
	io.Reader
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b) }

// However a stream of messages is cut, it reads like the messages; whatever they
// are, the bytes come through, and a TTL is none or at least minTTL.
func FuzzTTLReader(f *testing.F) {
	q := questionA("a.example.org.")
	f.Add(message(f, 1, q, 300, 60), message(f, 2, q, 1<<31, 5), 7)
	f.Add(message(f, 1, q), []byte{}, 1)
	f.Add([]byte{0, 1, 0x80}, []byte("\x00\x00\x80\x00\xff\xff\xff\xff"), 3)
	f.Fuzz(func(t *testing.T, first, second []byte, size int) {
		if len(first) > 0xffff || len(second) > 0xffff {
			return
		}
		var whole ttlReader
		var stream []byte
		for _, m := range [][]byte{first, second} {
			whole.read(m, true)
			stream = append(stream, byte(len(m)>>8), byte(len(m)))
			stream = append(stream, m...)
		}
		if ttl := whole.ttl(); ttl != 0 && ttl < minTTL {
			t.Errorf("TTL %s", ttl)
		}
		var cut ttlReader
		c := &tcpConn{Conn: pieces{Reader: iotest.HalfReader(bytes.NewReader(stream))}, ttls: &cut}
		var got []byte
		buf := make([]byte, 1+max(size, -size)&0xfff)
		for {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, stream) {
			t.Error("bytes are lost")
		}
		if cut.ttl() != whole.ttl() {
			t.Errorf("in pieces %s, whole %s", cut.ttl(), whole.ttl())
		}
		if len(c.piece) > 0 {
			t.Errorf("%d bytes are left", len(c.piece))
		}
		var packet ttlReader
		packet.read(first, false)
		if ttl := packet.ttl(); ttl != 0 && ttl < minTTL {
			t.Errorf("TTL %s of a packet", ttl)
		}
	})
}

// resolverOf makes a Resolver that asks dns.
func resolverOf(t *testing.T, dns *servers.DNS, hosts ...string) *Resolver {
	t.Helper()
	r, err := NewResolver(hosts, ResolverOptions{Servers: []string{dns.Addr}, Timeout: time.Second, Refresh: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// within waits until f holds, and fails if that takes longer.
func within(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not within %s: %s", limit, what)
			return
		}
	}
}

// asked counts the questions for the A records of a name.
func asked(dns *servers.DNS, host string) int {
	n := 0
	for _, q := range dns.Asked() {
		if q == "udp A "+host {
			n++
		}
	}
	return n
}

func TestResolver_FollowsTTL(t *testing.T) {
	t.Parallel()
	dns := servers.StartDNS(t, "short.example.org. 1 A 192.0.2.1", "long.example.org. 60 A 192.0.2.2")
	r := resolverOf(t, dns, "short.example.org.", "long.example.org.")
	defer start(t, r.Run)()
	for host, want := range map[string]string{"short.example.org.": "192.0.2.1", "long.example.org.": "192.0.2.2"} {
		if got := ask(t, r, host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
	dns.Set(t, "short.example.org. 1 A 192.0.2.3", "long.example.org. 60 A 192.0.2.4")
	within(t, 3*time.Second, "the new address", func() bool { return ask(t, r, "short.example.org.") == "192.0.2.3" })
	time.Sleep(1200 * time.Millisecond)
	if n := asked(dns, "short.example.org."); n < 2 || n > 5 {
		t.Errorf("asked %d times for the name with a TTL of a second", n)
	}
	if n := asked(dns, "long.example.org."); n != 1 {
		t.Errorf("asked %d times for the name with a TTL of a minute", n)
	}
}

// Whatever becomes of DNS, the last answer stands, and the next good one counts.
func TestResolver_LastAnswerStands(t *testing.T) {
	t.Parallel()
	moods := map[string]servers.DNSMode{
		"silent.example.org.": servers.DNSSilent, "servfail.example.org.": servers.DNSServfail,
		"nxdomain.example.org.": servers.DNSNXDomain, "empty.example.org.": servers.DNSEmpty,
		"refused.example.org.": servers.DNSRefused, "hangsup.example.org.": servers.DNSHangsUp,
	}
	var hosts, before, after []string
	for h := range moods {
		hosts = append(hosts, h)
		before, after = append(before, h+" 1 A 192.0.2.1"), append(after, h+" 1 A 192.0.2.2")
	}
	dns := servers.StartDNS(t, before...)
	r := resolverOf(t, dns, hosts...)
	defer start(t, r.Run)()
	all := func(want string) func() bool {
		return func() bool {
			for _, h := range hosts {
				if ask(t, r, h) != want {
					return false
				}
			}
			return true
		}
	}
	within(t, 3*time.Second, "the first answers", all("192.0.2.1"))
	dns.Set(t, after...)
	for h, m := range moods {
		dns.ModeOf(h, m)
	}
	questions := len(dns.Asked())
	time.Sleep(2500 * time.Millisecond)
	if !all("192.0.2.1")() {
		t.Error("an answer did not stand")
	}
	if n := len(dns.Asked()) - questions; n < 2*len(hosts) {
		t.Errorf("asked %d times since", n)
	}
	dns.Close()
	for h := range moods {
		dns.ModeOf(h, servers.DNSAnswers)
	}
	time.Sleep(1500 * time.Millisecond)
	if !all("192.0.2.1")() {
		t.Error("an answer did not stand while DNS was away")
	}
	dns.Start(t)
	within(t, 5*time.Second, "the answers of a DNS that came back", all("192.0.2.2"))
}

// By TCP the TTL counts too.
func TestResolver_Truncated(t *testing.T) {
	t.Parallel()
	dns := servers.StartDNS(t, "a.example.org. 1 A 192.0.2.1", "b.example.org. 60 A 192.0.2.2")
	dns.Mode(servers.DNSTruncates)
	r := resolverOf(t, dns, "a.example.org.", "b.example.org.")
	defer start(t, r.Run)()
	within(t, 2*time.Second, "the addresses", func() bool {
		return ask(t, r, "a.example.org.") == "192.0.2.1" && ask(t, r, "b.example.org.") == "192.0.2.2"
	})
	within(t, 3*time.Second, "a second question", func() bool { return asked(dns, "a.example.org.") > 1 })
	if n := asked(dns, "b.example.org."); n != 1 {
		t.Errorf("asked %d times for the name with a TTL of a minute", n)
	}
}

func TestNewResolver_BadServers(t *testing.T) {
	_, err := NewResolver(nil, ResolverOptions{Servers: []string{"192.0.2.1:53", "192.0.2.1", "dns.example.org:53"}})
	want := `monitor: "192.0.2.1" is no address of a name server; expected IP:PORT
monitor: "dns.example.org:53" is no address of a name server; expected IP:PORT`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

var _ LookupFunc = nameServers(nil).addresses
var _ SRVLookupFunc = nameServers(nil).records
