package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A DNSMode is what a DNS does with questions.
type DNSMode int

// The modes of a DNS.
const (
	DNSAnswers    DNSMode = iota
	DNSSilent             // says nothing
	DNSServfail           // says that it cannot
	DNSNXDomain           // knows no name
	DNSEmpty              // knows each name, with no record
	DNSRefused            // answers nobody
	DNSTruncates          // sends who asks by UDP to TCP
	DNSHangsUp            // UDP as DNSTruncates; TCP connections end without an answer
	dnsTTLDefault = 60
)

// A DNS is a name server, by UDP and TCP on one port of loopback, whose records
// and moods a test changes as it goes.
type DNS struct {
	Addr string // ip:port

	mu      sync.Mutex
	mode    DNSMode
	modes   map[string]DNSMode // of names that have one of their own
	records map[dnsmessage.Question][]dnsmessage.Resource
	names   map[string]int // records of each name
	asked   []string

	udp   net.PacketConn
	tcp   net.Listener
	wg    sync.WaitGroup
	conns map[net.Conn]bool // nil once closed
}

// StartDNS runs one with these records until the test ends. A record is a line
// like `example.org. 60 MX 10 mail.example.org.`; the seconds may be left out. It
// knows A, AAAA, CNAME, MX, NS, PTR, SRV (priority, weight, port, target) and TXT (the
// rest of the line is the text).
func StartDNS(t testing.TB, records ...string) *DNS {
	t.Helper()
	return startDNS(t, Addr(t, "127.0.0.1"), records...)
}

// StartSystemDNS runs one that can be the system's: those have port 53. Where
// that is not allowed, or taken, the test is skipped.
func StartSystemDNS(t testing.TB, records ...string) *DNS {
	t.Helper()
	addr := fmt.Sprintf("127.53.%d.%d:53", os.Getpid()/250%250, os.Getpid()%250+1)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return startDNS(t, addr, records...)
}

func startDNS(t testing.TB, addr string, records ...string) *DNS {
	t.Helper()
	d := &DNS{Addr: addr, records: map[dnsmessage.Question][]dnsmessage.Resource{}, names: map[string]int{}, modes: map[string]DNSMode{}}
	d.Set(t, records...)
	d.Start(t)
	t.Cleanup(d.Close)
	return d
}

// Start runs it again after a Close, on the same address.
func (d *DNS) Start(t testing.TB) {
	t.Helper()
	var err error
	if d.tcp, err = net.Listen("tcp", d.Addr); err != nil {
		t.Fatal(err)
	}
	if d.udp, err = net.ListenPacket("udp", d.Addr); err != nil {
		_ = d.tcp.Close()
		t.Fatal(err)
	}
	d.mu.Lock()
	d.conns = map[net.Conn]bool{}
	d.mu.Unlock()
	d.wg.Go(d.serveUDP)
	d.wg.Go(d.serveTCP)
}

// Close stops it: who asks now is refused by the system. It may be called again.
func (d *DNS) Close() {
	_ = d.udp.Close() // only what is closed already can give an error here
	_ = d.tcp.Close()
	d.mu.Lock()
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	d.wg.Wait()
}

// Mode changes what it does with questions from now on.
func (d *DNS) Mode(m DNSMode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode = m
}

// ModeOf changes what it does with questions for one name from now on, whatever
// its mode for others is.
func (d *DNS) ModeOf(name string, m DNSMode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.modes[strings.ToLower(name)] = m
}

// Set makes these the records of their names and types, in place of the old.
func (d *DNS) Set(t testing.TB, records ...string) {
	t.Helper()
	fresh := map[dnsmessage.Question][]dnsmessage.Resource{}
	for _, line := range records {
		r, err := parseRecord(line)
		if err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		q := question(r.Header.Name, r.Header.Type)
		fresh[q] = append(fresh[q], r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for q, list := range fresh {
		d.names[q.Name.String()] += len(list) - len(d.records[q])
		d.records[q] = list
	}
}

// Remove takes the records of a name away.
func (d *DNS) Remove(name string) {
	name = strings.ToLower(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	for q := range d.records {
		if q.Name.String() == name {
			delete(d.records, q)
		}
	}
	delete(d.names, name)
}

// Asked returns the questions so far, each like `udp MX example.org.`
func (d *DNS) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// Resolver asks it, and nobody else. A look-up that is given up ends at once.
func (d *DNS) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, network, d.Addr)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = c.Close() }) // the resolver closes it too
		}
		return c, err
	}}
}

func question(name dnsmessage.Name, kind dnsmessage.Type) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(strings.ToLower(name.String())), Type: kind, Class: dnsmessage.ClassINET}
}

var dnsTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "CNAME": dnsmessage.TypeCNAME, "MX": dnsmessage.TypeMX,
	"NS": dnsmessage.TypeNS, "PTR": dnsmessage.TypePTR, "SRV": dnsmessage.TypeSRV, "TXT": dnsmessage.TypeTXT,
}

func parseRecord(line string) (dnsmessage.Resource, error) {
	var r dnsmessage.Resource
	name, rest, _ := strings.Cut(line, " ")
	kind, data, _ := strings.Cut(rest, " ")
	ttl := uint64(dnsTTLDefault)
	if n, err := strconv.ParseUint(kind, 10, 32); err == nil {
		ttl = n
		kind, data, _ = strings.Cut(data, " ")
	}
	owner, err := dnsmessage.NewName(name)
	if err != nil || !strings.HasSuffix(name, ".") || dnsTypes[kind] == 0 {
		return r, errors.New("expected NAME. [SECONDS] TYPE DATA")
	}
	r.Header = dnsmessage.ResourceHeader{Name: owner, Type: dnsTypes[kind], Class: dnsmessage.ClassINET, TTL: uint32(ttl)}
	r.Body, err = parseData(kind, data)
	return r, err
}

func parseData(kind, data string) (dnsmessage.ResourceBody, error) {
	switch kind {
	case "A", "AAAA":
		a, err := netip.ParseAddr(data)
		switch {
		case err != nil:
			return nil, err
		case kind == "A" && a.Is4():
			return &dnsmessage.AResource{A: a.As4()}, nil
		case kind == "AAAA" && a.Is6():
			return &dnsmessage.AAAAResource{AAAA: a.As16()}, nil
		}
		return nil, errors.New("an address of the other family")
	case "TXT":
		var txt []string
		for piece := range slices.Chunk([]byte(data), 255) {
			txt = append(txt, string(piece))
		}
		return &dnsmessage.TXTResource{TXT: txt}, nil
	}
	numbers, data, err := splitNumbers(data, map[string]int{"MX": 1, "SRV": 3}[kind])
	if err != nil {
		return nil, err
	}
	name, err := dnsmessage.NewName(data)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "MX":
		return &dnsmessage.MXResource{Pref: numbers[0], MX: name}, nil
	case "SRV":
		return &dnsmessage.SRVResource{Priority: numbers[0], Weight: numbers[1], Port: numbers[2], Target: name}, nil
	case "NS":
		return &dnsmessage.NSResource{NS: name}, nil
	case "PTR":
		return &dnsmessage.PTRResource{PTR: name}, nil
	}
	return &dnsmessage.CNAMEResource{CNAME: name}, nil
}

// splitNumbers takes n numbers from the front of a record's data.
func splitNumbers(data string, n int) (numbers []uint16, rest string, err error) {
	for range n {
		word, after, _ := strings.Cut(data, " ")
		number, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			return nil, "", err
		}
		numbers, data = append(numbers, uint16(number)), after
	}
	return numbers, data, nil
}

// maxUDP is the most that an answer by UDP may take.
const maxUDP = 512

func (d *DNS) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := d.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // somebody who asked has gone
		}
		if out, _ := d.answer("udp", buf[:n]); out != nil {
			_, _ = d.udp.WriteTo(out, from)
		}
	}
}

func (d *DNS) serveTCP() {
	for {
		c, err := d.tcp.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		open := d.conns != nil
		if open {
			d.conns[c] = true
		}
		d.mu.Unlock()
		if !open {
			_ = c.Close()
			return
		}
		d.wg.Go(func() {
			d.serveConn(c)
			_ = c.Close()
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
		})
	}
}

// serveConn answers questions by TCP: two bytes of length, and the message.
func (d *DNS) serveConn(c net.Conn) {
	for c.SetDeadline(time.Now().Add(time.Minute)) == nil {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		in := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
		out, hangUp := d.answer("tcp", in)
		if hangUp {
			return
		}
		if out == nil {
			continue
		}
		if _, err := c.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...)); err != nil {
			return
		}
	}
}

// answer makes the answer to a message, nil for none, and says whether the
// connection is to end.
func (d *DNS) answer(by string, in []byte) (out []byte, hangUp bool) {
	var m dnsmessage.Message
	if m.Unpack(in) != nil || m.Response || len(m.Questions) != 1 {
		return nil, false
	}
	q := m.Questions[0]
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, fmt.Sprintf("%s %s %s", by, strings.TrimPrefix(q.Type.String(), "Type"), q.Name))
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true},
		Questions: m.Questions,
	}
	mode, own := d.modes[strings.ToLower(q.Name.String())]
	if !own {
		mode = d.mode
	}
	switch mode {
	case DNSSilent:
		return nil, false
	case DNSServfail:
		reply.RCode = dnsmessage.RCodeServerFailure
	case DNSRefused:
		reply.RCode = dnsmessage.RCodeRefused
	case DNSNXDomain:
		reply.RCode = dnsmessage.RCodeNameError
	case DNSEmpty:
	default:
		if by == "tcp" && mode == DNSHangsUp {
			return nil, true
		}
		reply.Truncated = by == "udp" && mode != DNSAnswers
		if !reply.Truncated {
			reply.Answers, reply.RCode = d.find(q)
		}
	}
	out, err := reply.Pack()
	if err == nil && by == "udp" && len(out) > maxUDP {
		reply.Answers, reply.Truncated = nil, true
		out, err = reply.Pack()
	}
	if err != nil {
		return nil, false
	}
	return out, false
}

// find returns the records that answer a question, following CNAMEs. The caller
// holds mu.
func (d *DNS) find(q dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode) {
	var out []dnsmessage.Resource
	name := q.Name
	for range 8 { // as long as a chain may be
		found := d.records[question(name, q.Type)]
		out = append(out, found...)
		alias := d.records[question(name, dnsmessage.TypeCNAME)]
		if len(found) > 0 || len(alias) == 0 {
			break
		}
		out = append(out, alias...)
		name = alias[0].Body.(*dnsmessage.CNAMEResource).CNAME
	}
	if len(out) == 0 && d.names[strings.ToLower(q.Name.String())] == 0 {
		return nil, dnsmessage.RCodeNameError
	}
	return out, dnsmessage.RCodeSuccess
}
