package monitor

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

// srv parses "10 60 143 a.example.org.": priority, weight, port, target.
func srv(tb testing.TB, lines ...string) []*net.SRV {
	tb.Helper()
	var out []*net.SRV
	for _, l := range lines {
		var r net.SRV
		if _, err := fmt.Sscanf(l, "%d %d %d %s", &r.Priority, &r.Weight, &r.Port, &r.Target); err != nil {
			tb.Fatalf("%q: %v", l, err)
		}
		out = append(out, &r)
	}
	return out
}

func template(protocol, srv string, weight int) *proxy.Server {
	return &proxy.Server{Protocol: protocol, SRV: srv, Weight: weight, TLS: true, Tags: []string{"of " + srv}}
}

// expandText expands an inventory whose SRV names have these answers, and shows it.
func expandText(tb testing.TB, inventory []*proxy.Server, answers map[string][]*net.SRV) string {
	tb.Helper()
	records := func(name string) []record {
		r, _ := usable(answers[name])
		return r
	}
	return show(expand(inventory, records, expansion{}).servers)
}

// show writes one server a line: protocol, address, weight, tags.
func show(list []*proxy.Server) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "%s %s %d %s\n", s.Protocol, s.Address(), s.Weight, strings.Join(s.Tags, " "))
	}
	return b.String()
}

func TestExpand(t *testing.T) {
	fixed := server("imap", "Fixed.example.org", 143)
	fixed.Weight, fixed.Tags = 7, []string{"fixed"}
	imap, pop3 := template("imap", "_imap", 100), template("pop3", "_pop3", 300)
	tests := []struct {
		name      string
		inventory []*proxy.Server
		answers   map[string][]*net.SRV
		want      string
	}{
		{"nothing", nil, nil, ""},
		{"entries with a host stay", []*proxy.Server{fixed}, nil, "imap Fixed.example.org:143 7 fixed\n"},
		{"no answer yet", []*proxy.Server{imap, fixed}, nil, "imap Fixed.example.org:143 7 fixed\n"},
		{"equal weights", []*proxy.Server{fixed, imap}, map[string][]*net.SRV{"_imap": srv(t, "10 5 143 b.example.org.", "10 5 143 A.example.org.")},
			"imap Fixed.example.org:143 7 fixed\nimap a.example.org:143 100 of _imap\nimap b.example.org:143 100 of _imap\n"},
		{"all 0", []*proxy.Server{imap}, map[string][]*net.SRV{"_imap": srv(t, "10 0 143 b.example.org.", "10 0 993 a.example.org.")},
			"imap a.example.org:993 100 of _imap\nimap b.example.org:143 100 of _imap\n"},
		{"shares", []*proxy.Server{pop3}, map[string][]*net.SRV{"_pop3": srv(t, "0 60 110 a.", "0 20 110 b.", "0 1 110 c.", "0 0 110 d.")},
			"pop3 a:110 300 of _pop3\npop3 b:110 100 of _pop3\npop3 c:110 5 of _pop3\npop3 d:110 1 of _pop3\n"},
		{"weight 0 of the entry", []*proxy.Server{template("imap", "_imap", 0)}, map[string][]*net.SRV{"_imap": srv(t, "0 60 143 a.", "0 20 143 b.")},
			"imap a:143 0 of _imap\nimap b:143 0 of _imap\n"},
		{"each priority for itself", []*proxy.Server{imap}, map[string][]*net.SRV{"_imap": srv(t, "20 65535 143 a.", "10 1 143 c.", "10 2 143 b.")},
			"imap b:143 100 of _imap\nimap c:143 50 of _imap\nimap a:143 100 of _imap\n"},
		{"twice", []*proxy.Server{imap}, map[string][]*net.SRV{"_imap": srv(t, "20 1 143 a.", "10 1 143 A.", "10 4 143 a.", "10 2 143 b.")},
			"imap a:143 100 of _imap\nimap b:143 50 of _imap\n"},
		{"an entry with a host wins, wherever it stands", []*proxy.Server{imap, fixed},
			map[string][]*net.SRV{"_imap": srv(t, "10 1 143 fixed.example.org.", "10 1 1143 fixed.example.org.")},
			"imap fixed.example.org:1143 7 fixed\nimap Fixed.example.org:143 7 fixed\n"},
		{"one machine by two names", []*proxy.Server{imap, pop3},
			map[string][]*net.SRV{"_imap": srv(t, "10 1 143 a.", "20 1 143 b."), "_pop3": srv(t, "10 1 110 b.", "10 1 110 c.")},
			"imap a:143 100 of _imap\nimap b:143 100 of _imap\npop3 b:110 100 of _imap\npop3 c:110 300 of _pop3\n"},
		{"one name for two protocols", []*proxy.Server{imap, template("pop3", "_imap", 5)},
			map[string][]*net.SRV{"_imap": srv(t, "10 1 143 a.")},
			"imap a:143 100 of _imap\npop3 a:143 100 of _imap\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, expandText(t, tt.inventory, tt.answers)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if imap.Host != "" || imap.Weight != 100 {
		t.Errorf("the template has changed: %v", *imap)
	}
}

// What the template says of checks and TLS is the backend's.
func TestExpand_KeepsTheRest(t *testing.T) {
	template := &proxy.Server{
		Protocol: "http", SRV: "_http._tcp.example.org", TLS: true, TLSSkipVerify: true, HAProxyV2: true, DeepCheck: true,
		RequestURI: "/x", ExpectStatus: "204", TestUsername: "probe", TestPassword: proxy.NewSecret("hunter2"), Weight: 3, Tags: []string{"a"},
	}
	records, _ := usable(srv(t, "0 0 443 a.example.org."))
	got := expand([]*proxy.Server{template}, func(string) []record { return records }, expansion{}).servers[0]
	want := *template
	want.Host, want.Port = "a.example.org", 443
	if diff := cmp.Diff(&want, got, cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Error(diff)
	}
}

func TestUsable(t *testing.T) {
	tests := []struct {
		name    string
		answer  []*net.SRV
		want    string
		dropped string
	}{
		{"empty", nil, "[]", "[]"},
		{"nil", []*net.SRV{nil}, "[]", "[]"},
		{"no service", srv(t, "0 0 0 ."), "[]", "[0 0 0 .]"},
		{"no host name", srv(t, "1 2 143 -a.example.org.", "1 2 143 1.2.3.", "1 2 143 b."), "[1 2 143 b]", "[1 2 143 -a.example.org. 1 2 143 1.2.3.]"},
		{"port 0", srv(t, "1 2 0 a.", "1 2 1 a."), "[1 2 1 a]", "[1 2 0 a.]"},
		{"order", srv(t, "2 1 1 a.", "1 1 2 b.", "1 1 1 b.", "1 1 3 A."), "[1 1 3 a 1 1 1 b 1 1 2 b 2 1 1 a]", "[]"},
	}
	for _, tt := range tests {
		records, dropped := usable(tt.answer)
		if got := fmt.Sprint(records); got != tt.want || fmt.Sprint(dropped) != tt.dropped {
			t.Errorf("%s: %s, dropped %s", tt.name, got, dropped)
		}
	}
}

func TestUsable_TooMany(t *testing.T) {
	var answer []*net.SRV
	for i := range maxRecords + 50 {
		answer = append(answer, &net.SRV{Target: fmt.Sprintf("h%04d.example.org.", i), Port: 143, Priority: uint16(i)})
	}
	rand.Shuffle(len(answer), func(i, j int) { answer[i], answer[j] = answer[j], answer[i] })
	records, dropped := usable(answer)
	if len(records) != maxRecords || records[0].host != "h0000.example.org" || records[maxRecords-1].host != "h1999.example.org" {
		t.Errorf("%d records from %s", len(records), records[0])
	}
	if got := fmt.Sprint(dropped); got != "[50 more than 2000]" {
		t.Error(got)
	}
}

// Who stays as he was keeps his pointer, whatever becomes of others.
func TestExpand_Pointers(t *testing.T) {
	inventory := []*proxy.Server{template("imap", "_imap", 100), template("pop3", "_pop3", 100)}
	var answers map[string][]*net.SRV
	recordsOf := func(name string) []record {
		r, _ := usable(answers[name])
		return r
	}
	answers = map[string][]*net.SRV{"_imap": srv(t, "0 1 143 a.", "0 1 143 b."), "_pop3": srv(t, "0 1 110 b.")}
	one := expand(inventory, recordsOf, expansion{})
	answers["_imap"] = srv(t, "0 1 143 0.new.", "0 1 143 b.", "1 1 143 a.")
	two := expand(inventory, recordsOf, one)
	if diff := cmp.Diff("imap 0.new:143 100 of _imap\nimap b:143 100 of _imap\nimap a:143 100 of _imap\npop3 b:110 100 of _imap\n", show(two.servers)); diff != "" {
		t.Fatal(diff)
	}
	if one.servers[1] != two.servers[1] || one.servers[2] != two.servers[3] {
		t.Error("who stays has another pointer")
	}
	if one.servers[0] == two.servers[2] || one.servers[0].Weight != 100 {
		t.Error("a server whose weight is another is the same one")
	}
}

// Whatever DNS says: hosts and ports can be dialled, nobody stands twice, one
// machine has one weight, and the order of the answer says nothing.
func FuzzExpand(f *testing.F) {
	f.Add("10 5 143 a.example.org.\n10 0 143 b.example.org.\n20 1 143 .", "1 1 110 A.example.org.\n0 0 0 x", 100, uint64(1))
	f.Add("0 0 143 fixed.example.org\n0 65535 143 FIXED.example.org.\n1 1 1 192.0.2.1", "0 0 1 ::1", 0, uint64(2))
	f.Add("0 1 1 \x00.\n0 3 1 a..b\n0 2 65535 xn--bcher-kva.example.", "", 1000, uint64(3))
	parse := func(text string) []*net.SRV {
		var out []*net.SRV
		for line := range strings.Lines(text) {
			var r net.SRV
			_, _ = fmt.Sscanf(line, "%d %d %d", &r.Priority, &r.Weight, &r.Port)
			if words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4); len(words) == 4 {
				r.Target = words[3]
			}
			out = append(out, &r)
		}
		return out
	}
	f.Fuzz(func(t *testing.T, first, second string, weight int, seed uint64) {
		if weight < 0 || weight > 1000 {
			return
		}
		fixed := server("imap", "fixed.example.org", 143)
		inventory := []*proxy.Server{template("imap", "_imap", weight), fixed, template("pop3", "_pop3", 100)}
		answers := map[string][]*net.SRV{"_imap": parse(first), "_pop3": parse(second)}
		once := expandText(t, inventory, answers)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for _, a := range answers {
			rnd.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
		}
		if again := expandText(t, inventory, answers); again != once {
			t.Errorf("the order matters:\n%s\n%s", once, again)
		}
		list := expand(inventory, func(name string) []record { r, _ := usable(answers[name]); return r }, expansion{}).servers
		seen, weights := map[string]bool{}, map[string]int{}
		for _, s := range list {
			host := proxy.CanonicalHost(s.Host)
			id := fmt.Sprint(s.Protocol, " ", host, " ", s.Port)
			if !proxy.ValidHost(s.Host) || s.Port < 1 || s.Port > 65535 || s.Weight < 0 || s.Weight > 1000 || seen[id] {
				t.Errorf("%s, weight %d, twice: %t", id, s.Weight, seen[id])
			}
			seen[id] = true
			if w, known := weights[host]; known && w != s.Weight {
				t.Errorf("%s has weights %d and %d", host, w, s.Weight)
			}
			weights[host] = s.Weight
		}
		if !seen["imap fixed.example.org 143"] {
			t.Error("an entry with a host is gone")
		}
		_, dropped := usable(answers["_imap"])
		if text := some(dropped); len(text) > (maxShown+1)*(maxWords+8) || strings.ContainsAny(text, "\x00\r\n\x1b") {
			t.Errorf("%q", text)
		}
	})
}
