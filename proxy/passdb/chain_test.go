package passdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

type fakeDriver struct {
	name     string
	verifies bool
	id       proxy.Identity
	err      error
	asked    int
}

func (f *fakeDriver) Name() string   { return f.name }
func (f *fakeDriver) Verifies() bool { return f.verifies }
func (f *fakeDriver) Lookup(context.Context, *proxy.Request) (proxy.Identity, error) {
	f.asked++
	return f.id, f.err
}

func TestChain_Verify(t *testing.T) {
	down := errors.New("connection refused")
	unknown := func(name string) *fakeDriver {
		return &fakeDriver{name: name, verifies: true, err: fmt.Errorf("no row: %w", ErrUnknownUser)}
	}
	tests := []struct {
		name    string
		drivers []*fakeDriver
		want    proxy.Identity
		denial  *proxy.Denial
		temp    string
		asked   int // drivers
	}{
		{
			name:    "the first that knows the user answers",
			drivers: []*fakeDriver{unknown("a"), {name: "b", verifies: true, id: proxy.Identity{User: "u", Verified: true}}, unknown("c")},
			want:    proxy.Identity{User: "u", Driver: "b", Verified: true},
			asked:   2,
		},
		{
			name:    "who does not verify cannot say verified",
			drivers: []*fakeDriver{{name: "a", id: proxy.Identity{Verified: true}}},
			want:    proxy.Identity{Driver: "a"},
			asked:   1,
		},
		{
			name:    "wrong password is final",
			drivers: []*fakeDriver{{name: "a", err: &proxy.Denial{By: "passdb:a", Reason: proxy.UserDisabled, Text: "gone"}}, unknown("b")},
			denial:  &proxy.Denial{By: "passdb:a", Reason: proxy.UserDisabled, Text: "gone"},
			asked:   1,
		},
		{
			name:    "a bare refusal gets its words",
			drivers: []*fakeDriver{{name: "a", err: fmt.Errorf("no: %w", proxy.ErrDenied)}},
			denial:  &proxy.Denial{By: "passdb:a", Reason: proxy.BadPassword},
			asked:   1,
		},
		{
			name:    "a denial without a name gets it",
			drivers: []*fakeDriver{{name: "a", err: &proxy.Denial{Text: "no"}}},
			denial:  &proxy.Denial{By: "passdb:a", Reason: proxy.BadPassword, Text: "no"},
			asked:   1,
		},
		{
			name:    "an error stops at once",
			drivers: []*fakeDriver{unknown("a"), {name: "b", err: down}, unknown("c")},
			temp:    "passdb: b: connection refused",
			asked:   2,
		},
		{
			name:    "nobody knows the user",
			drivers: []*fakeDriver{unknown("a"), unknown("b")},
			denial:  &proxy.Denial{By: "passdb:b", Reason: proxy.BadPassword},
			asked:   2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var drivers []Driver
			for _, d := range tt.drivers {
				drivers = append(drivers, d)
			}
			c := New(drivers...)
			got, err := c.Verify(t.Context(), &proxy.Request{User: "u"})
			asked := 0
			for _, d := range tt.drivers {
				asked += d.asked
			}
			if asked != tt.asked {
				t.Errorf("%d drivers asked, want %d", asked, tt.asked)
			}
			var denial *proxy.Denial
			switch {
			case tt.temp != "":
				if err == nil || err.Error() != tt.temp || errors.Is(err, proxy.ErrDenied) || !errors.Is(err, down) {
					t.Errorf("error %v, want %s", err, tt.temp)
				}
			case tt.denial != nil:
				if !errors.As(err, &denial) {
					t.Fatalf("error %v, want a denial", err)
				}
				if diff := cmp.Diff(tt.denial, denial); diff != "" {
					t.Error(diff)
				}
			case err != nil:
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(proxy.Secret{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChain_Order(t *testing.T) {
	verifying := &fakeDriver{name: "passwd_file", verifies: true}
	other := &fakeDriver{name: "lua", verifies: true}
	tests := []struct {
		name     string
		drivers  []Driver
		verifies bool
		warns    string
	}{
		{name: "passthrough alone", drivers: []Driver{Passthrough{}}},
		{name: "verifying alone", drivers: []Driver{verifying}, verifies: true},
		{name: "passthrough last", drivers: []Driver{verifying, Passthrough{}}, verifies: true},
		{name: "passthrough first", drivers: []Driver{Passthrough{}, verifying, other}, warns: "never asked: passwd_file, lua;"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(tt.drivers...)
			if got := c.Verifies(); got != tt.verifies {
				t.Errorf("Verifies: %v, want %v", got, tt.verifies)
			}
			w := strings.Join(c.Warnings(), "\n")
			if (w != "") != (tt.warns != "") || !strings.Contains(w, tt.warns) {
				t.Errorf("warnings %q, want …%s…", w, tt.warns)
			}
		})
	}
}

// Without a driver nobody is refused and nobody gets in.
func TestChain_Empty(t *testing.T) {
	if _, err := New().Verify(t.Context(), &proxy.Request{User: "u"}); err == nil || errors.Is(err, proxy.ErrDenied) {
		t.Errorf("error %v, want a temporary one", err)
	}
}

func TestPassthrough(t *testing.T) {
	tests := []struct {
		name     string
		method   string
		password string
		want     proxy.Reason
	}{
		{"plain", "plain", "secret", ""},
		{"token", "xoauth2", strings.Repeat("t", 4000), ""},
		{"empty password", "plain", "", proxy.BadPassword},
		{"apop", "apop", "digest", proxy.BadRequest},
		{"cram-md5", "cram-md5", "digest", proxy.BadRequest},
		{"external", "external", "", proxy.BadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := Passthrough{}.Lookup(t.Context(), &proxy.Request{User: "u", Method: tt.method, Password: proxy.NewSecret(tt.password)})
			if got := reason(t, err); got != tt.want {
				t.Fatalf("reason %q, want %q", got, tt.want)
			}
			if err == nil && (id.Driver != "passthrough" || id.Verified) {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

// reason returns why err refuses, "" for no error.
func reason(t *testing.T, err error) proxy.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var d *proxy.Denial
	if !errors.As(err, &d) {
		t.Fatalf("not a denial: %v", err)
	}
	return d.Reason
}
