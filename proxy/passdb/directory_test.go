package passdb

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/proxy"
)

var (
	_ Directory    = (*PasswdFile)(nil)
	_ Directory    = Passthrough{}
	_ Directory    = (*Chain)(nil)
	_ proxy.Finder = (*Chain)(nil)
)

// fakeDirectory is a driver whose look-ups fail with err.
type fakeDirectory struct {
	fakeDriver
	names []string
}

func (f *fakeDirectory) Find(context.Context, *proxy.Request) (proxy.Identity, error) {
	f.asked++
	return f.id, f.err
}

func (f *fakeDirectory) User(context.Context, *proxy.Request) ([]proxy.Attr, error) {
	f.asked++
	return f.id.Fields, f.err
}

func (f *fakeDirectory) List(_ context.Context, mask string, yield func(string) bool) error {
	f.asked++
	for _, n := range f.names {
		if (mask == "" || proxy.FitsMask(mask, n)) && !yield(n) {
			return nil
		}
	}
	return f.err
}

func listed(t *testing.T, k Directory, mask string) ([]string, error) {
	t.Helper()
	var got []string
	err := k.List(t.Context(), mask, func(user string) bool {
		got = append(got, user)
		return true
	})
	slices.Sort(got)
	return got, err
}

func TestPasswdFile_Directory(t *testing.T) {
	root, err := user.LookupId("0")
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, strings.Join([]string{
		"alice@example.org:{PLAIN}secret:1000:1001:Alice:/home/alice:/bin/sh:userdb_quota_rule=*:storage=1G userdb_mail=maildir:~/%n/%d userdb_flag host=h",
		"bob:{PLAIN}secret::::::user=robert pass=backend nologin proxy",
		"carol:{PLAIN}secret:" + root.Username + "::::",
		"dave:!",
		"old:*:1:2::/h::" + ":maildir:/x:y",
		"again:x:1:2::/h::userdb_home=/elsewhere userdb_uid=3 userdb_user=late",
		"nobody-here:{PLAIN}x:no-such-user-here:::",
		"variable:{PLAIN}x::::::userdb_mail=%h",
		"flagged:{PLAIN}x::::::userdb_mail:protected=x",
		"nameless:{PLAIN}x::::::userdb_=x",
		"fail:{PLAIN}secret::::::fail allow_nets=192.0.2.1",
	}, "\n"), NewWorkers(), nil)

	attrs := func(pairs ...string) (out []proxy.Attr) {
		for _, p := range pairs {
			k, v, eq := strings.Cut(p, "=")
			out = append(out, proxy.Attr{Name: k, Value: v, Bare: !eq})
		}
		return out
	}
	users := []struct {
		name string
		want []proxy.Attr
		err  string
	}{
		{"Alice@example.org", attrs("user=alice@example.org", "uid=1000", "gid=1001", "home=/home/alice",
			"quota_rule=*:storage=1G", "mail=maildir:~/alice/example.org", "flag"), ""},
		{"bob", attrs("user=bob"), ""},
		{"carol", attrs("user=carol", "uid=0"), ""},
		{"dave", attrs("user=dave"), ""},
		{"old", attrs("user=old", "uid=1", "gid=2", "home=/h", "mail=maildir:/x:y"), ""},
		{"again", attrs("user=late", "uid=3", "gid=2", "home=/elsewhere"), ""},
		{"nobody-here", nil, "uid: user: unknown user no-such-user-here"},
		{"variable", nil, "extra field userdb_mail: of variables only %u, %n, %d and %% are supported"},
		{"flagged", nil, "extra field userdb_mail:protected is not supported"},
		{"nameless", nil, "a userdb field without a usable name"},
	}
	for _, tt := range users {
		t.Run("user "+tt.name, func(t *testing.T) {
			got, err := f.User(t.Context(), &proxy.Request{User: tt.name})
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || err.Error() != tt.err || errors.Is(err, ErrUnknownUser)):
				t.Fatalf("error %v, want %s", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := f.User(t.Context(), &proxy.Request{User: "nobody"}); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("error %v, want ErrUnknownUser", err)
	}

	finds := []struct {
		name string
		want proxy.Identity
	}{
		{"ALICE@example.org", proxy.Identity{User: "alice@example.org", Driver: "passwd_file", Fields: attrs("host=h")}},
		{"bob", proxy.Identity{User: "robert", Driver: "passwd_file", Fields: attrs("proxy")}},
		{"dave", proxy.Identity{User: "dave", Driver: "passwd_file"}},
		{"fail", proxy.Identity{User: "fail", Driver: "passwd_file"}},
	}
	for _, tt := range finds {
		t.Run("find "+tt.name, func(t *testing.T) {
			got, err := f.Find(t.Context(), &proxy.Request{User: tt.name})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(proxy.Secret{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := f.Find(t.Context(), &proxy.Request{User: "nobody"}); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("error %v, want ErrUnknownUser", err)
	}

	for mask, want := range map[string]int{"": 11, "*": 11, "A*": 2, "*@example.org": 1, "bo?": 1, "b?": 0, "bob": 1, "[ab]*": 0} {
		got, err := listed(t, f, mask)
		if err != nil || len(got) != want {
			t.Errorf("mask %q: %d names (%v), want %d: %q", mask, len(got), err, want, got)
		}
	}
	n := 0
	if err := f.List(t.Context(), "", func(string) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("%d names after the end was asked for (%v)", n, err)
	}
}

// A look-up of a long list ends with its caller.
func TestPasswdFile_ListEnds(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "u%d:\n", i)
	}
	f := open(t, b.String(), NewWorkers(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.List(ctx, "", func(string) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestChain_Find(t *testing.T) {
	down := errors.New("connection refused")
	unknown := &fakeDirectory{fakeDriver: fakeDriver{name: "unknown", err: fmt.Errorf("no row: %w", ErrUnknownUser)}}
	broken := &fakeDirectory{fakeDriver: fakeDriver{name: "broken", err: down}}
	knows := &fakeDirectory{fakeDriver: fakeDriver{name: "knows", id: proxy.Identity{
		User: "u", Verified: true, Fields: []proxy.Attr{{Name: "uid", Value: "1"}},
	}}}
	blind := &fakeDriver{name: "blind"}
	tests := []struct {
		name    string
		drivers []Driver
		driver  string // that answers
		find    error
		user    error
		text    string // of find
	}{
		{"in order", []Driver{unknown, knows, broken}, "knows", nil, nil, ""},
		{"nobody knows", []Driver{unknown, unknown}, "", ErrUnknownUser, ErrUnknownUser, "unknown user"},
		{"an error is final", []Driver{unknown, broken, knows}, "", down, down, "passdb: broken: connection refused"},
		{"passwords alone", []Driver{unknown, blind, knows}, "", proxy.ErrNotServed, proxy.ErrNotServed, "passdb: blind: not served"},
		{"passthrough", []Driver{unknown, Passthrough{}}, "passthrough", nil, proxy.ErrNotServed, ""},
		{"none", nil, "", errNoDriver, errNoDriver, errNoDriver.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(tt.drivers...)
			id, err := c.Find(t.Context(), &proxy.Request{User: "u"})
			if !errors.Is(err, tt.find) || err != nil && err.Error() != tt.text {
				t.Errorf("Find: error %v, want %v", err, tt.find)
			}
			if id.Driver != tt.driver || id.Verified {
				t.Errorf("Find: %+v", id)
			}
			fields, err := c.User(t.Context(), &proxy.Request{User: "u"})
			if !errors.Is(err, tt.user) || (err == nil) != (len(fields) == 1) {
				t.Errorf("User: %v, error %v, want %v", fields, err, tt.user)
			}
		})
	}
}

func TestChain_List(t *testing.T) {
	down := errors.New("connection refused")
	ab := &fakeDirectory{fakeDriver: fakeDriver{name: "ab"}, names: []string{"a", "b"}}
	bc := &fakeDirectory{fakeDriver: fakeDriver{name: "bc"}, names: []string{"b", "c"}}
	broken := &fakeDirectory{fakeDriver: fakeDriver{name: "broken", err: down}, names: []string{"d"}}
	tests := []struct {
		name    string
		drivers []Driver
		mask    string
		want    []string
		err     error
	}{
		{"one", []Driver{ab}, "", []string{"a", "b"}, nil},
		{"each once", []Driver{ab, bc}, "", []string{"a", "b", "c"}, nil},
		{"mask", []Driver{ab, bc}, "[a-b]", nil, nil},
		{"an error", []Driver{ab, broken, bc}, "", []string{"a", "b", "d"}, down},
		{"passwords alone", []Driver{ab, &fakeDriver{name: "blind"}}, "", nil, proxy.ErrNotServed},
		{"passthrough", []Driver{ab, Passthrough{}}, "", nil, proxy.ErrNotServed},
		{"none", nil, "", nil, errNoDriver},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := listed(t, New(tt.drivers...), tt.mask)
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	bc.asked = 0
	n := 0
	if err := New(ab, bc).List(t.Context(), "", func(string) bool { n++; return false }); err != nil || n != 1 || bc.asked != 0 {
		t.Errorf("%d names, %d more drivers asked after the end was asked for (%v)", n, bc.asked, err)
	}
	if err := (Passthrough{}).List(t.Context(), "", nil); !errors.Is(err, proxy.ErrNotServed) {
		t.Errorf("passthrough lists: %v", err)
	}
}

// Whatever a line says, its userdb fields can be sent.
func FuzzUserdb(f *testing.F) {
	f.Add("a:x:1:2:g:/h:s:userdb_mail=m userdb_x")
	f.Add("a:x:::::::mail:dir")
	f.Fuzz(func(t *testing.T, line string) {
		fields, err := newUserdb(strings.SplitN(line, ":", 8)).fields("a@b")
		if err != nil {
			return
		}
		for _, a := range fields {
			if a.Name == "" || strings.ContainsAny(a.Name, "\t\n\r\x00\x01=") {
				t.Errorf("field %q", a.Name)
			}
		}
	})
}
