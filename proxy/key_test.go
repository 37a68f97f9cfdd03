package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy/affinity"
)

// keyed is a Pipeline over the inventory whose policy is d, and its store.
func keyed(t *testing.T, d fakeDirector, change ...func(*Options)) (*Pipeline, *affinity.Memory) {
	t.Helper()
	store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: time.Minute, MaxEntries: 10})
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{
		Verifier: fakeVerifier(func(*Request) (Identity, error) { return Identity{Driver: "fake", Verified: true}, nil }),
		Director: d, Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Recorder: &recorder{},
		Assignments: store, Affinity: AffinityPolicy, KeyScope: affinity.ByUser, MasterSeparator: "*",
	}
	for _, f := range change {
		f(&opt)
	}
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return p, store
}

// underKey is a policy that keeps its users by a key, and sees nobody there
// unless seen says so.
func underKey(seen, host string) fakeDirector {
	return func(*Query) (Verdict, error) {
		return Verdict{Selected: true, Host: host, Port: 143, Reason: Selected, By: "policy:test", Key: "family", KeyHost: seen}, nil
	}
}

func TestKey(t *testing.T) {
	for _, tc := range []struct {
		name     string
		own, key string // assignments before
		seen     string
		opt      func(*Options)
		r        *Request
		want     string
		after    string // the user's own, the key's
	}{
		{name: "recorded under the key", want: "routed policy:test selected 127.0.0.2", after: " 127.0.0.2"},
		{name: "the user's own stays", own: "127.0.0.3", want: "routed policy:test selected 127.0.0.2", after: "127.0.0.3 127.0.0.2"},
		{name: "the policy moves the key", key: "127.0.0.3", seen: "127.0.0.3", want: "routed policy:test selected 127.0.0.2", after: " 127.0.0.2"},
		{name: "another login of the key was quicker", key: "127.0.0.3", want: "routed assignment race 127.0.0.3", after: " 127.0.0.3"},
		{name: "enforced by the key", own: "127.0.0.2", key: "127.0.0.3", seen: "127.0.0.3", opt: func(o *Options) { o.Affinity = AffinityEnforce },
			want: "routed assignment enforced 127.0.0.3", after: "127.0.0.2 127.0.0.3"},
		{name: "the user's own is not enforced", own: "127.0.0.3", opt: func(o *Options) { o.Affinity = AffinityEnforce },
			want: "routed policy:test selected 127.0.0.2", after: "127.0.0.3 127.0.0.2"},
		{name: "affinity is off", opt: func(o *Options) { o.Affinity = AffinityOff }, want: "routed policy:test selected 127.0.0.2", after: " "},
		{name: "lmtp replaces none", r: request(service("lmtp")), key: "127.0.0.3", seen: "127.0.0.3",
			want: "routed policy:test selected 127.0.0.2", after: " 127.0.0.3"},
		{name: "lmtp creates one", r: request(service("lmtp")), own: "127.0.0.3",
			want: "routed policy:test selected 127.0.0.2", after: "127.0.0.3 127.0.0.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, store := keyed(t, underKey(tc.seen, "127.0.0.2"), func(o *Options) {
				if tc.opt != nil {
					tc.opt(o)
				}
			})
			for name, host := range map[string]string{"alice@example.org": tc.own, "family": tc.key} {
				if host == "" {
					continue
				}
				if _, err := store.Claim(t.Context(), affinity.Key{Name: name}, "", host); err != nil {
					t.Fatal(err)
				}
			}
			r := tc.r
			if r == nil {
				r = request()
			}
			d := p.Handle(t.Context(), r)
			if got := fmt.Sprint(d.Outcome, " ", d.By, " ", d.Reason, " ", d.Host); got != tc.want {
				t.Errorf("got %q (%v), want %q", got, d.Err, tc.want)
			}
			own, _ := store.Lookup(t.Context(), affinity.Key{Name: "alice@example.org"})
			key, _ := store.Lookup(t.Context(), affinity.Key{Name: "family"})
			if got := own + " " + key; got != tc.after {
				t.Errorf("assignments then %q, want %q", got, tc.after)
			}
		})
	}
}

// The users of a key keep a host whose health is unknown.
func TestKey_UnknownHealth(t *testing.T) {
	p, store := keyed(t, underKey("127.0.0.7", "127.0.0.7"))
	if d := p.Handle(t.Context(), request()); d.Reason != BackendDown {
		t.Errorf("a new key: %s %s", d.Outcome, d.Reason)
	}
	if _, err := store.Claim(t.Context(), affinity.Key{Name: "family"}, "", "127.0.0.7"); err != nil {
		t.Fatal(err)
	}
	if d := p.Handle(t.Context(), request()); d.Outcome != Routed {
		t.Errorf("one that is there: %s %s", d.Outcome, d.Reason)
	}
}

// Policies see other users' assignments under the key that a login would have.
func TestOthers(t *testing.T) {
	var got []string
	p, store := keyed(t, func(q *Query) (Verdict, error) {
		user, err := q.Others.AssignedUser(t.Context(), "Bob*master")
		key, err2 := q.Others.AssignedKey(t.Context(), "family")
		got = []string{user, key, fmt.Sprint(q.Others.Assigned("127.0.0.2"), q.Others.Assigned("127.0.0.9"), err, err2)}
		return Verdict{}, nil
	})
	for name, host := range map[string]string{"bob": "127.0.0.2", "family": "127.0.0.3", "carol": "127.0.0.2"} {
		if _, err := store.Claim(t.Context(), affinity.Key{Tag: "ssd", Name: name}, "", host); err != nil {
			t.Fatal(err)
		}
	}
	p.Handle(t.Context(), upstream(&Upstream{User: "alice@example.org", Tag: "ssd"}))
	if s := strings.Join(got, " "); s != "127.0.0.2 127.0.0.3 2 0 <nil> <nil>" {
		t.Errorf("in the tag's space: %q", s)
	}
	p.Handle(t.Context(), request())
	if s := strings.Join(got, " "); s != "  2 0 <nil> <nil>" {
		t.Errorf("outside of it: %q", s)
	}
	p, _ = keyed(t, func(q *Query) (Verdict, error) {
		if q.Others != nil {
			t.Error("affinity is off, and there is somebody to ask")
		}
		return Verdict{}, nil
	}, func(o *Options) { o.Affinity = AffinityOff })
	p.Handle(t.Context(), request())
}

// A policy's "try later" is no fault: nothing is counted, and no warning logged.
func TestTempFail(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    Verdict
		r    *Request
		want string
	}{
		{"before a selection", Verdict{TempFail: true, TempFailText: "moving", Selected: true, Host: "127.0.0.2"}, request(), "tempfail policy:test policy_error moving"},
		{"without a text", Verdict{TempFail: true}, request(), "tempfail policy:test policy_error the policy says to try later"},
		{"before a hold", Verdict{TempFail: true, TempFailText: "x", Hold: time.Second}, request(), "tempfail policy:test policy_error x"},
		{"a refusal comes first", Verdict{TempFail: true, Refused: true}, request(), "denied policy:test policy <nil>"},
		{"only authenticated", Verdict{TempFail: true, TempFailText: "x"}, request(service("imap"), func(r *Request) { r.NoLogin, r.Upstream = true, &Upstream{User: "alice"} }), "tempfail policy:test policy_error x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.v.By = "policy:test"
			core, logs := observer.New(zapcore.InfoLevel)
			p, _ := keyed(t, func(*Query) (Verdict, error) { return tc.v, nil }, func(o *Options) { o.Log = zap.New(core) })
			d := p.Handle(t.Context(), tc.r)
			if got := fmt.Sprint(d.Outcome, " ", d.By, " ", d.Reason, " ", d.Err); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if line := logs.FilterMessage("decision").All(); len(line) != 1 || line[0].Level != zapcore.InfoLevel {
				t.Errorf("log: %+v", line)
			}
		})
	}
	p, err := New(Options{
		Verifier: fakeVerifier(func(*Request) (Identity, error) { return Identity{}, errors.New("must not be asked") }),
		Director: fakeGate{before: func(*Query) (Verdict, error) { return Verdict{TempFail: true, By: "policy:gate"}, nil }},
		Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Recorder: &recorder{}, Affinity: AffinityOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Handle(t.Context(), request()); d.Outcome != TempFail || d.By != "policy:gate" || d.Reason != PolicyError {
		t.Errorf("a feature: %+v", d)
	}
}

// A pin is of one user: it does not take those along who share his key.
func TestPin_OthersStay(t *testing.T) {
	for name, tc := range map[string]struct {
		opt  func(*Options)
		d    fakeDirector
		key  string
		want string // host of the key's assignment
	}{
		"his own key": {func(*Options) {}, silent, "alice@example.org", "127.0.0.3"},
		"his domain":  {func(o *Options) { o.KeyScope = affinity.ByDomain }, silent, "example.org", "127.0.0.2"},
		"a policy's":  {func(*Options) {}, underKey("127.0.0.2", "127.0.0.2"), "family", "127.0.0.2"},
	} {
		p, store := keyed(t, tc.d, tc.opt, func(o *Options) { o.Orders = fakeOrders{pin: "127.0.0.3"} })
		key := affinity.Key{Name: tc.key}
		if err := store.Set(t.Context(), key, "127.0.0.2"); err != nil {
			t.Fatal(err)
		}
		if d := p.Handle(t.Context(), request()); d.Outcome != Routed || d.Host != "127.0.0.3" {
			t.Errorf("%s: %s to %s", name, d.Outcome, d.Host)
		}
		if at, err := store.Lookup(t.Context(), key); at != tc.want || err != nil {
			t.Errorf("%s: the key lives at %s (%v), want %s", name, at, err, tc.want)
		}
	}
}

// latePin pins the user when his login has just been placed.
type latePin struct {
	fakeOrders
	asked *int
}

func (o latePin) Pin(context.Context, string) (string, error) {
	if *o.asked++; *o.asked == 1 {
		return "", nil
	}
	return "127.0.0.3", nil
}

// A login on its way while its user is pinned does not go elsewhere.
func TestPin_DuringLogin(t *testing.T) {
	p, _ := keyed(t, selecting("127.0.0.2", 143), func(o *Options) { o.Orders = latePin{asked: new(int)} })
	if d := p.Handle(t.Context(), request()); d.Outcome != Held {
		t.Errorf("%s to %s", d.Outcome, d.Host)
	}
	if d := p.Handle(t.Context(), request()); d.Outcome != Routed || d.Host != "127.0.0.3" {
		t.Errorf("asked again: %s to %s", d.Outcome, d.Host)
	}
}
