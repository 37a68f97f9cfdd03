package control

import (
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// inventory is one that stands, with no panic.
func inventory(entries ...proxy.Entry) func() (Inventory, bool) {
	return func() (Inventory, bool) { return Inventory{Entries: entries}, true }
}

// What a backend becomes while its inventory is being taken is not overwritten.
func TestMetrics_TransitionMeanwhile(t *testing.T) {
	m := NewMetrics("1", Gauges{Assignments: func() int { return 0 }})
	s := &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143}
	done := make(chan struct{})
	m.SetInventory(func() (Inventory, bool) {
		before := Inventory{Entries: []proxy.Entry{{Server: s}}}
		go func() {
			defer close(done)
			m.Transition(s, proxy.Unknown, proxy.Up)
			m.Panic("imap", true)
		}()
		time.Sleep(50 * time.Millisecond) // it goes first, if anything lets it
		return before, true
	})
	<-done
	for _, want := range []string{
		`usher_backend_up{backend="127.0.0.2:143",protocol="imap"} 1`, `usher_backend_panic{protocol="imap"} 1`,
	} {
		if _, text := get(t, m.Handler(), "/metrics"); !strings.Contains(text, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
}

// A check that ends when its backend is gone leaves nothing behind.
func TestMetrics_GoneBackend(t *testing.T) {
	m := NewMetrics("1", Gauges{Assignments: func() int { return 0 }})
	s := &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143}
	gone := &proxy.Server{Protocol: "pop3", Host: "127.0.0.9", Port: 110}
	m.SetInventory(inventory(proxy.Entry{Server: s}, proxy.Entry{Server: gone}))
	m.SetInventory(inventory(proxy.Entry{Server: s}))
	m.SetInventory(func() (Inventory, bool) { // of a configuration that was replaced meanwhile
		return Inventory{Entries: []proxy.Entry{{Server: gone}}, Panics: []string{"pop3"}}, false
	})
	m.CheckDone(gone, time.Millisecond, nil)
	m.Transition(gone, proxy.Up, proxy.Down)
	m.Panic("pop3", false)
	if _, text := get(t, m.Handler(), "/metrics"); strings.Contains(text, "pop3") || !strings.Contains(text, `usher_backend_up{backend="127.0.0.2:143",protocol="imap"}`) {
		t.Error(text)
	}
}

// The panics of an inventory are those that stand.
func TestMetrics_InventoryPanics(t *testing.T) {
	m := NewMetrics("1", Gauges{Assignments: func() int { return 0 }})
	entries := []proxy.Entry{
		{Server: &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143}},
		{Server: &proxy.Server{Protocol: "pop3", Host: "127.0.0.2", Port: 110}},
	}
	m.SetInventory(inventory(entries...))
	m.Panic("imap", true)
	m.SetInventory(func() (Inventory, bool) { return Inventory{entries, []string{"pop3"}}, true })
	_, text := get(t, m.Handler(), "/metrics")
	for _, want := range []string{`usher_backend_panic{protocol="imap"} 0`, `usher_backend_panic{protocol="pop3"} 1`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
}
