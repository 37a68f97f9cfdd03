package passdb

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

var _ decoy = (*PasswdFile)(nil)

const blf = "$2y$05$0PFzLFuPcVR/nTj9.KK/zOxCySBooCkj935N85kQbaTOL2MlEPpUK" // correct horse

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, text string, w *Workers, log *zap.Logger) *PasswdFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := NewPasswdFile(path, w, log)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func login(user, password string) *proxy.Request {
	return &proxy.Request{User: user, Method: "plain", Password: proxy.NewSecret(password)}
}

func TestPasswdFile_Lookup(t *testing.T) {
	f := open(t, strings.Join([]string{
		"alice@example.org:{PLAIN}secret:::::",
		"bob:" + blf + "::::::proxy host=192.0.2.1 pass=backend user=robert",
		"locked:!" + blf,
		"nothing:",
		"any:::::::nopassword",
		"gone:{PLAIN}secret::::::nologin reason=moved",
		"fail:{PLAIN}secret::::::fail",
		"nets:{PLAIN}secret::::::allow_nets=192.0.2.0/24,2001:db8::/32",
		"local:{PLAIN}secret::::::allow_nets=local",
	}, "\n"), NewWorkers(), nil)
	from := func(r *proxy.Request, addr string) *proxy.Request {
		r.Client = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
		return r
	}
	by := func(r *proxy.Request, method string) *proxy.Request {
		r.Method = method
		return r
	}
	id := func(user string, verified bool) proxy.Identity {
		return proxy.Identity{User: user, Driver: "passwd_file", Verified: verified}
	}
	tests := []struct {
		name    string
		r       *proxy.Request
		want    proxy.Identity
		reason  proxy.Reason
		text    string
		unknown bool
	}{
		{name: "right", r: login("alice@example.org", "secret"), want: id("alice@example.org", true)},
		{name: "login", r: by(login("alice@example.org", "secret"), "login"), want: id("alice@example.org", true)},
		{name: "name in upper case", r: login("Alice@EXAMPLE.org", "secret"), want: id("alice@example.org", true)},
		{name: "wrong", r: login("alice@example.org", "Secret"), reason: proxy.BadPassword},
		{name: "empty", r: login("alice@example.org", ""), reason: proxy.BadPassword},
		{name: "too long", r: login("alice@example.org", strings.Repeat("x", 1025)), reason: proxy.BadRequest},
		{name: "longest", r: login("alice@example.org", strings.Repeat("x", 1024)), reason: proxy.BadPassword},
		{name: "with a zero byte", r: login("bob", "correct horse\x00correct horse"), reason: proxy.BadRequest},
		{name: "a token is no password", r: by(login("alice@example.org", "secret"), "xoauth2"), reason: proxy.BadRequest},
		{name: "unknown", r: login("carol", "secret"), unknown: true},
		{name: "fields, name and password", r: login("bob", "correct horse"), want: proxy.Identity{
			User: "robert", Driver: "passwd_file", Verified: true, Password: proxy.NewSecret("backend"),
			Fields: []proxy.Attr{{Name: "proxy", Bare: true}, {Name: "host", Value: "192.0.2.1"}},
		}},
		{name: "locked", r: login("locked", "correct horse"), reason: proxy.BadPassword},
		{name: "no password", r: login("nothing", "x"), reason: proxy.BadPassword},
		{name: "no password, none given", r: login("nothing", ""), reason: proxy.BadPassword},
		{name: "nopassword is not verified", r: login("any", "x"), want: id("any", false)},
		{name: "nopassword, none given", r: login("any", ""), reason: proxy.BadPassword},
		{name: "disabled", r: login("gone", "secret"), reason: proxy.UserDisabled, text: "moved"},
		{name: "disabled, wrong password", r: login("gone", "x"), reason: proxy.BadPassword},
		{name: "fail", r: login("fail", "secret"), reason: proxy.BadPassword},
		{name: "inside the net", r: from(login("nets", "secret"), "192.0.2.77"), want: id("nets", true)},
		{name: "inside the net, mapped", r: from(login("nets", "secret"), "::ffff:192.0.2.77"), want: id("nets", true)},
		{name: "inside the net, IPv6", r: from(login("nets", "secret"), "2001:db8::1%eth0"), want: id("nets", true)},
		{name: "outside the net", r: from(login("nets", "secret"), "192.0.3.1"), reason: proxy.BadPassword},
		{name: "client unknown", r: login("nets", "secret"), reason: proxy.BadPassword},
		{name: "local and unknown", r: login("local", "secret"), want: id("local", true)},
		{name: "local and known", r: from(login("local", "secret"), "127.0.0.1"), reason: proxy.BadPassword},
	}
	secret := cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.Lookup(t.Context(), tt.r)
			if tt.unknown {
				if !errors.Is(err, ErrUnknownUser) {
					t.Fatalf("error %v, want ErrUnknownUser", err)
				}
				return
			}
			if why := reason(t, err); why != tt.reason {
				t.Fatalf("reason %q, want %q", why, tt.reason)
			}
			if d := (*proxy.Denial)(nil); errors.As(err, &d) && (d.Text != tt.text || d.By != "passdb:passwd_file") {
				t.Errorf("denial %+v", d)
			}
			if diff := cmp.Diff(tt.want, got, secret); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPasswdFile_FieldsAreNotShared(t *testing.T) {
	f := open(t, "a:{PLAIN}x::::::host=h", NewWorkers(), nil)
	for range 2 {
		id, err := f.Lookup(t.Context(), login("a", "x"))
		if err != nil {
			t.Fatal(err)
		}
		if id.Fields[0].Value != "h" {
			t.Fatal("the table was changed from outside")
		}
		id.Fields[0].Value = "changed"
	}
}

// An unknown user, one without a password and one that hashing has no room for
// must look alike.
func TestPasswdFile_UnknownUserCosts(t *testing.T) {
	w := newWorkers(1, 0)
	f := open(t, "alice:"+blf+"\nempty:\n", w, nil)
	c := New(f)
	if err := w.Do(t.Context(), func() { // the only slot is taken
		for _, user := range []string{"alice", "empty", "nobody"} {
			if _, err := c.Verify(t.Context(), login(user, "x")); !errors.Is(err, ErrOverload) || errors.Is(err, proxy.ErrDenied) {
				t.Errorf("%s: error %v, want overload", user, err)
			}
			r := login(user, "x")
			r.Method = "apop"
			if _, err := c.Verify(t.Context(), r); reason(t, err) != proxy.BadPassword {
				t.Errorf("%s, apop: %v", user, err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "empty", "nobody"} {
		if _, err := c.Verify(t.Context(), login(user, "x")); reason(t, err) != proxy.BadPassword {
			t.Errorf("%s: %v", user, err)
		}
	}
	// Who knows alice's password is not let in as somebody else.
	for _, user := range []string{"empty", "nobody"} {
		if _, err := c.Verify(t.Context(), login(user, "correct horse")); reason(t, err) != proxy.BadPassword {
			t.Errorf("%s with alice's password: %v", user, err)
		}
	}
}

func TestNewPasswdFile_Errors(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	write(t, broken, "a:{NOPE}x\n")
	for name, tt := range map[string]struct{ path, want string }{
		"missing": {filepath.Join(dir, "none"), "no such file"},
		"folder":  {dir, "not a regular file"},
		"broken":  {broken, broken + `:1: user "a": scheme NOPE is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewPasswdFile(tt.path, NewWorkers(), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestPasswdFile_Reload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		f := open(t, "a:{PLAIN}one\n", NewWorkers(), zap.New(core))
		stamp := time.Now().Add(-time.Hour)
		change := func(text string) { // at rest, with a time of its own
			t.Helper()
			write(t, f.path, text)
			stamp = stamp.Add(time.Second)
			if err := os.Chtimes(f.path, stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
		try := func(password string, want proxy.Reason) {
			t.Helper()
			_, err := f.Lookup(t.Context(), login("a", password))
			if got := reason(t, err); got != want {
				t.Errorf("%s: reason %q, want %q", password, got, want)
			}
		}
		logged := func(want int) string {
			t.Helper()
			all := logs.TakeAll()
			if len(all) != want {
				t.Fatalf("%d lines logged, want %d: %v", len(all), want, all)
			}
			if want == 0 {
				return ""
			}
			text, _ := all[0].ContextMap()["error"].(string)
			return all[0].Message + ": " + text
		}

		change("a:{PLAIN}two\n")
		try("one", "") // not looked at within a second
		time.Sleep(recheck)
		try("two", "")
		try("one", proxy.BadPassword)
		logged(1)

		change("a:{NOPE}three\n")
		for range 3 {
			time.Sleep(recheck)
			try("two", "")
		}
		if got := logged(1); !strings.Contains(got, "scheme NOPE is not supported") {
			t.Errorf("logged %q", got)
		}

		if err := os.Remove(f.path); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(recheck)
			try("two", "")
		}
		if got := logged(1); !strings.Contains(got, "no such file") {
			t.Errorf("logged %q", got)
		}

		change("a:{PLAIN}four\n")
		time.Sleep(recheck)
		try("four", "")
		logged(1)

		// Being written right now: wait until it rests.
		write(t, f.path, "")
		now := time.Now().Add(recheck)
		if err := os.Chtimes(f.path, now, now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		try("four", "")
		write(t, f.path, "a:{PLAIN}five\n")
		if err := os.Chtimes(f.path, now, now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		try("five", "")
		logged(1)
	})
}

func TestPasswdFile_ReloadUnderLoad(t *testing.T) {
	f := open(t, "a:{PLAIN}one\n", NewWorkers(), nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				f.next.Store(0) // due at once
				if _, err := f.Lookup(t.Context(), login("a", "one")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		old := time.Now().Add(-time.Hour - time.Duration(i)*time.Second)
		next := f.path + ".new"
		write(t, next, "a:{PLAIN}one\n"+strings.Repeat("#\n", i))
		if err := os.Chtimes(next, old, old); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, f.path); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func BenchmarkPasswdFile_Lookup(b *testing.B) {
	f := open(b, "plain:{PLAIN}correct horse\nsha256:{SHA256}QQTTb42iwlQ0n4WDZ5Pr4CngyVcGOjTJHC6SAxh7VjE=\n", NewWorkers(), nil)
	for _, user := range []string{"plain", "sha256"} {
		b.Run("scheme="+user, func(b *testing.B) {
			b.ReportAllocs()
			r, ctx := login(user, "correct horse"), context.Background()
			for b.Loop() {
				if _, err := f.Lookup(ctx, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
