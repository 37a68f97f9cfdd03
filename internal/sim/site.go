package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy"
	"usher/proxy/affinity"
)

// hosts is how many backends there are at the beginning.
const hosts = 100

// A host is one backend machine with its imap and pop3.
type host struct {
	addr   netip.Addr
	weight int
	health proxy.Health
	admin  proxy.Admin
}

// fleet returns the backends: weights of 50 to 400 in steps of 50, by a fixed seed.
func fleet() []host {
	random := rand.New(rand.NewPCG(1, 2005))
	list := make([]host, hosts)
	for i := range list {
		list[i] = newHost(i, 50+50*random.IntN(8))
	}
	return list
}

func newHost(i, weight int) host {
	return host{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), weight: weight, health: proxy.Up}
}

func view(list []host) *proxy.View {
	var entries []proxy.Entry
	for _, h := range list {
		for _, s := range [...]proxy.Server{{Protocol: "imap", Port: 143}, {Protocol: "pop3", Port: 110}} {
			s.Host, s.Weight = h.addr.String(), h.weight
			entries = append(entries, proxy.Entry{Server: &s, Health: h.health, Admin: h.admin, Addr: h.addr})
		}
	}
	return proxy.NewView(entries)
}

// A site is users, their assignments, and the pipeline that places them with the
// built-in policy. It implements what the pipeline asks of others.
type site struct {
	users    int
	view     atomic.Pointer[proxy.View]
	store    *affinity.Memory
	pipeline *proxy.Pipeline
}

// A placement has the host of each user.
type placement []netip.Addr

func newSite(users int, list []host) (*site, error) {
	store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: 24 * time.Hour, MaxEntries: users})
	if err != nil {
		return nil, err
	}
	s := &site{users: users, store: store}
	s.view.Store(view(list))
	s.pipeline, err = proxy.New(proxy.Options{
		Verifier: s, Director: proxy.Builtin{}, Backends: s, Names: s, Assignments: store, Recorder: s,
		Affinity: proxy.AffinityPolicy, KeyScope: affinity.ByUser,
	})
	return s, err
}

func user(i int) string { return fmt.Sprintf("user%07d@example.org", i) }

// each calls do for all users, on all processors.
func (s *site) each(do func(i int) error) error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < s.users && errs[w] == nil; i += workers {
				errs[w] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// logins lets every user log in by imap.
func (s *site) logins() (placement, error) {
	at := make(placement, s.users)
	return at, s.each(func(i int) error {
		d := s.pipeline.Handle(context.Background(), &proxy.Request{
			Adapter: "dovecot", Service: "imap", Protocol: "imap", Method: "plain", User: user(i), Password: proxy.NewSecret("x"),
		})
		if d.Outcome != proxy.Routed {
			return fmt.Errorf("%s: %s %s: %w", user(i), d.Outcome, d.Reason, d.Err)
		}
		at[i] = d.Addr
		return nil
	})
}

// hashed is where the hash alone sends every user: one without a live assignment.
func (s *site) hashed() (placement, error) {
	candidates := s.view.Load().Candidates("imap", "", false)
	at := make(placement, s.users)
	return at, s.each(func(i int) error {
		e := proxy.Rendezvous("imap", user(i), candidates)
		if e == nil {
			return fmt.Errorf("%s: no host", user(i))
		}
		at[i] = e.Addr
		return nil
	})
}

// restore assigns all users as before a change.
func (s *site) restore(now, before placement) error {
	return s.each(func(i int) error {
		if now[i] == before[i] {
			return nil
		}
		return s.store.Set(context.Background(), affinity.Key{Name: user(i)}, before[i].String())
	})
}

// Verify implements proxy.Verifier.
func (*site) Verify(_ context.Context, r *proxy.Request) (proxy.Identity, error) {
	return proxy.Identity{User: r.User, Driver: "sim", Verified: true}, nil
}

// View implements proxy.Backends.
func (s *site) View() *proxy.View { return s.view.Load() }

// WaitReady implements proxy.Backends.
func (*site) WaitReady(context.Context) error { return nil }

// Lookup implements proxy.Names.
func (*site) Lookup(_ context.Context, host string) (netip.Addr, error) {
	return netip.ParseAddr(host)
}

// Decided implements proxy.Recorder.
func (*site) Decided(*proxy.Request, *proxy.Decision) {}

// PolicyRan implements proxy.Recorder.
func (*site) PolicyRan(time.Duration, bool, error) {}
