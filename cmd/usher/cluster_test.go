package main

import (
	"testing"

	"usher/config"
	"usher/proxy"
)

// The digest is the same for the same hosts in another order, and another one for
// whatever changes where the hash sends users.
func TestDigest(t *testing.T) {
	entry := func(host string, weight int) proxy.Entry {
		return proxy.Entry{Server: &proxy.Server{Protocol: "imap", Host: host, Port: 143, Weight: weight}, Health: proxy.Up}
	}
	sum := func(cfg *config.Config, entries ...proxy.Entry) string { return digest(cfg, proxy.NewView(entries)) }
	cfg := config.Default()
	want := sum(cfg, entry("mail1", 100), entry("mail2", 100))
	if got := sum(cfg, entry("mail2", 100), entry("mail1.", 100)); got != want {
		t.Errorf("another order: %s, want %s", got, want)
	}
	down := entry("mail2", 100)
	down.Health = proxy.Down
	drained := entry("mail2", 100)
	drained.Admin = proxy.AdminDrain
	tagged := entry("mail2", 100)
	tagged.Tags = []string{"a"}
	byDomain := config.Default()
	byDomain.Affinity.Key = "domain"
	for name, got := range map[string]string{
		"a weight": sum(cfg, entry("mail1", 100), entry("mail2", 99)),
		"a host":   sum(cfg, entry("mail1", 100), entry("mail3", 100)),
		"one less": sum(cfg, entry("mail1", 100)),
		"down":     sum(cfg, entry("mail1", 100), down),
		"drained":  sum(cfg, entry("mail1", 100), drained),
		"tagged":   sum(cfg, entry("mail1", 100), tagged),
		"keys":     sum(byDomain, entry("mail1", 100), entry("mail2", 100)),
	} {
		if got == want {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}
