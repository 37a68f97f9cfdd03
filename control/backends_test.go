package control

import (
	"bytes"
	"net/http"
	"os/user"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func TestOrder(t *testing.T) {
	s := &fakeService{}
	c := serveAPI(t, s)
	weight := 7
	for _, o := range []BackendOrder{
		{Target: "[2001:db8::1]:143", State: "drain", Reason: "disk", By: "alice", DryRun: true},
		{Target: "mail1", Weight: &weight},
	} {
		a, err := c.Order(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if a.Target != o.Target || a.DryRun != o.DryRun || a.Users != 7 {
			t.Errorf("%+v", a)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := []BackendOrder{
		{Target: "[2001:db8::1]:143", State: "drain", Reason: "disk", By: "alice", DryRun: true},
		{Target: "mail1", Weight: &weight, By: me.Username}, // the kernel knows who asks
	}
	if diff := cmp.Diff(want, s.orders); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Order(t.Context(), BackendOrder{Target: "nowhere"}); err == nil || !strings.Contains(err.Error(), "no such backend") {
		t.Errorf("%v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://usher/v1/backends/mail1", bytes.NewReader([]byte(`{"stat":"up"}`)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusUnprocessableEntity || len(s.orders) != 2 {
		t.Errorf("an unknown field: %s, %d orders", resp.Status, len(s.orders))
	}
}

func TestAddRemove(t *testing.T) {
	s := &fakeService{}
	c := serveAPI(t, s)
	if a, err := c.AddBackend(t.Context(), BackendAdd{Host: "mail9", By: "root"}); err != nil || a.Target != "mail9" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.RemoveBackend(t.Context(), BackendRemove{Target: "mail9:143", By: "root"}); err != nil || a.Target != "mail9:143" {
		t.Errorf("%+v, %v", a, err)
	}
	if diff := cmp.Diff([]string{"add mail9 root", "remove mail9:143 root"}, s.users); diff != "" {
		t.Error(diff)
	}
}

func TestCheckBackend(t *testing.T) {
	reports, err := serveAPI(t, &fakeService{}).CheckBackend(t.Context(), "127.0.0.2:143")
	if err != nil || len(reports) != 1 || reports[0].Backend.Backend != "127.0.0.2:143" || reports[0].Lines[0] != "S: * OK" {
		t.Errorf("%+v, %v", reports, err)
	}
}

func TestRate(t *testing.T) {
	var r rate
	for second := int64(1000); second < 1020; second++ {
		for range second - 999 {
			r.add(second)
		}
	}
	if got := r.perSecond(1020); got != 15.5 { // seconds 1010 to 1019: 11 to 20
		t.Errorf("%v", got)
	}
	if got := r.perSecond(1025); got != 9 { // of the ten only five had any: 16 to 20
		t.Errorf("%v later", got)
	}
	if got := r.perSecond(2000); got != 0 {
		t.Errorf("%v much later", got)
	}
}

func TestRates(t *testing.T) {
	var r rates
	a := &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143}
	r.count(a) // nobody knows it yet
	r.set([]proxy.Entry{{Server: a}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				r.count(a)
			}
		})
	}
	wg.Wait()
	heavier := *a
	heavier.Weight = 3
	r.set([]proxy.Entry{{Server: &heavier}, {Server: &proxy.Server{Protocol: "pop3", Host: "127.0.0.2", Port: 143}}})
	total := uint32(0)
	for i := range r.find(&heavier) {
		total += uint32(r.find(a)[i].Load())
	}
	if total != 8000 {
		t.Errorf("%d counted", total)
	}
	if n := testing.AllocsPerRun(100, func() { r.count(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
