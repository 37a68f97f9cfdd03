package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func TestDecisions(t *testing.T) {
	var r decisions
	q := &proxy.Request{
		Adapter: "dovecot", Session: "St2K8", Service: "imap", Method: "plain", Password: proxy.NewSecret("hidden"),
		Client: netip.MustParseAddrPort("192.0.2.7:1234"), Local: netip.MustParseAddrPort("[2001:db8::1]:143"), TLS: proxy.Transport{Secured: true},
	}
	d := func(i int) *proxy.Decision {
		return &proxy.Decision{
			ID: fmt.Sprint("ID", i), User: fmt.Sprintf("User%d", i%2), Outcome: proxy.Routed, Host: "mail1", Port: 143, By: "policy:director",
			Reason: proxy.Sticky, Took: time.Millisecond, Logs: []proxy.Attr{{Name: "site", Value: "north"}, {Name: "empty", Value: ""}},
			Password: proxy.NewSecret("hidden"), Err: errors.New(strings.Repeat("x", 2000)),
		}
	}
	r.add(q, d(0)) // nobody wants any
	if got := r.find("", "", 10); got != nil {
		t.Errorf("%v", got)
	}
	r.resize(5)
	for i := range 12 {
		r.add(q, d(i))
	}
	ids := func(list []DecisionRecord) (out []string) {
		for _, r := range list {
			out = append(out, r.ID)
		}
		return out
	}
	if diff := cmp.Diff([]string{"ID11", "ID10", "ID9", "ID8", "ID7"}, ids(r.find("", "", 100))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ID11", "ID9"}, ids(r.find("", "user1", 2))); diff != "" {
		t.Error(diff)
	}
	if got := r.find("ID3", "", 1); got != nil {
		t.Errorf("an old one: %v", got)
	}
	got := r.find("ID9", "", 1)[0]
	want := DecisionRecord{
		ID: "ID9", At: got.At, Adapter: "dovecot", Session: "St2K8", Service: "imap", User: "User1", RIP: "192.0.2.7", LIP: "2001:db8::1", TLS: true,
		Mech: "PLAIN", Outcome: "routed", Backend: "mail1:143", By: "policy:director", Reason: "sticky", Error: strings.Repeat("x", maxKept), TookUS: 1000,
		Custom: map[string]string{"site": "north", "empty": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	plain := d(1)
	plain.Err = nil
	if n := testing.AllocsPerRun(100, func() { r.add(q, plain) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	r.resize(5)
	if len(r.find("", "", 9)) != 5 {
		t.Error("the same size again forgot them")
	}
	r.resize(0)
	r.add(q, plain)
}

func TestDecisions_Concurrent(t *testing.T) {
	var r decisions
	r.resize(10)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				r.add(&proxy.Request{Session: strings.Repeat("s", i%100)}, &proxy.Decision{ID: fmt.Sprint(w), User: strings.Repeat("u", i%50)})
				if i%10 == 0 {
					for _, d := range r.find("", "", 10) {
						if len(d.ID) != 1 || strings.Trim(d.User, "u") != "" {
							t.Errorf("%+v", d)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDecisions(b *testing.B) {
	var r decisions
	r.resize(10_000)
	q := &proxy.Request{Adapter: "dovecot", Session: "St2K8", Service: "imap", Method: "plain"}
	d := &proxy.Decision{ID: "01J00000000000000000000000", User: "alice@example.org", Outcome: proxy.Routed, Host: "mail1", Port: 143, By: "policy:director"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.add(q, d)
		}
	})
}
