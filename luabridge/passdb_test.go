package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
	"usher/proxy/passdb"
)

var (
	_ passdb.Driver    = (*Passdb)(nil)
	_ passdb.Directory = (*Passdb)(nil)
	_ proxy.Gate       = (*Director)(nil)
)

func newPassdb(t *testing.T, text string) *Passdb {
	t.Helper()
	p, _, err := newDirector(t, inFilter("")).NewPassdb(Script{Name: "users", Path: "users.lua", Text: text}, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const usersScript = `
local users = {alice = "secret", bob = "hidden"}
function nauthilus_backend_verify_password(request)
  local b = nauthilus_backend_result.new()
  local password = users[request.username]
  if password then
    b:user_found(true)
    b:account_field("account")
    b:attributes({account = request.username .. "@example.org", quota = 1000000, plain = true, none = false,
      lists = {"a", "b"}, host = "192.0.2.66", master = "root", ["bad name"] = "x"})
    if not request.no_auth then
      b:authenticated(request.password == password)
    end
  end
  return nauthilus_builtin.BACKEND_RESULT_OK, b
end

function nauthilus_backend_list_accounts(request)
  local list = {}
  for name in pairs(users) do list[#list + 1] = name .. "@example.org" end
  table.sort(list)
  return nauthilus_builtin.BACKEND_RESULT_OK, list
end`

func login(user, password string) *proxy.Request {
	r := query(user).Request
	r.Password = proxy.NewSecret(password)
	return r
}

func TestPassdb(t *testing.T) {
	p, ctx := newPassdb(t, usersScript), context.Background()
	id, err := p.Lookup(ctx, login("alice", "secret"))
	want := proxy.Identity{User: "alice@example.org", Driver: "lua", Verified: true, Fields: []proxy.Attr{{Name: "quota", Value: "1000000"}, {Name: "plain", Bare: true}}}
	if diff := cmp.Diff(want, id, cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() })); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := p.Lookup(ctx, login("alice", "wrong")); !errors.Is(err, proxy.ErrDenied) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := p.Lookup(ctx, login("nobody", "secret")); !errors.Is(err, passdb.ErrUnknownUser) {
		t.Errorf("an unknown user: %v", err)
	}
	if id, err := p.Find(ctx, login("bob", "not shown")); err != nil || id.User != "bob@example.org" || id.Verified {
		t.Errorf("find: %+v, %v", id, err)
	}
	if _, err := p.Find(ctx, login("nobody", "")); !errors.Is(err, passdb.ErrUnknownUser) {
		t.Errorf("find an unknown user: %v", err)
	}
	if fields, err := p.User(ctx, login("bob", "")); err != nil || fields[0] != (proxy.Attr{Name: "user", Value: "bob@example.org"}) {
		t.Errorf("user: %+v, %v", fields, err)
	}
	var all []string
	if err := p.List(ctx, "a*", func(user string) bool { all = append(all, user); return true }); err != nil || strings.Join(all, " ") != "alice@example.org" {
		t.Errorf("list: %q, %v", all, err)
	}
	for _, method := range []string{"apop", "cram-md5", "external"} {
		r := login("alice", "secret")
		r.Method = method
		if _, err := p.Lookup(ctx, r); err == nil || errors.Is(err, proxy.ErrDenied) || errors.Is(err, passdb.ErrUnknownUser) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// good is a result that lets anybody in.
const good = `local b = nauthilus_backend_result.new() b:authenticated(true) b:user_found(true) b:account_field("uid") b:attributes({uid = "root"}) `

// What can't be right is a temporary failure, and says what it is.
func TestPassdb_Answers(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"nothing", ``, "returned nil; expected"},
		{"a failure", `return nauthilus_builtin.BACKEND_RESULT_FAIL, nauthilus_backend_result.new()`, "returned 1; expected"},
		{"no result", `return 0`, "its second result is a nil"},
		{"another userdata", `return 0, nauthilus_backend.get_backend_servers()[1]`, "its second result is a nil"},
		{"a table", `return 0, {authenticated = true}`, "its second result is a table"},
		{"an account without a name", `local b = nauthilus_backend_result.new() b:authenticated(true) b:user_found(true) b:account_field("uid") return 0, b`, "account_field names is missing"},
		{"an account with two", `local b = nauthilus_backend_result.new() b:authenticated(true) b:user_found(true) b:account_field("uid") b:attributes({uid = {"a", "b"}}) return 0, b`, "account_field names is missing"},
		{"usher.tempfail", good + `usher.tempfail("db away") return 0, b`, "db away"},
		{"usher.hold", good + `usher.hold(1) return 0, b`, "cannot hold a login"},
		{"an error", `error("db away: " .. request.password)`, "db away: ********"},
		{"an error that is caught", `pcall(function() while true do end end) local b = nauthilus_backend_result.new() b:authenticated(true) b:account_field("uid") b:attributes({uid = "root"}) return 0, b`, "budget of steps"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPassdb(t, "function nauthilus_backend_verify_password(request) "+test.body+"\nend")
			_, err := p.Lookup(context.Background(), login("alice", "s3cret-pass"))
			if err == nil || errors.Is(err, proxy.ErrDenied) || errors.Is(err, passdb.ErrUnknownUser) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a temporary failure with %q", err, test.want)
			}
			if err := p.List(context.Background(), "", nil); !errors.Is(err, proxy.ErrNotServed) {
				t.Errorf("list: %v", err)
			}
		})
	}
	t.Run("authenticated without an account field", func(t *testing.T) {
		p := newPassdb(t, `function nauthilus_backend_verify_password() local b = nauthilus_backend_result.new() b:authenticated(true) b:user_found(true) return 0, b end`)
		if _, err := p.Lookup(context.Background(), login("alice", "x")); !errors.Is(err, proxy.ErrDenied) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("authenticated, but not found", func(t *testing.T) {
		p := newPassdb(t, "function nauthilus_backend_verify_password() "+good+"b:user_found(false) return 0, b end")
		if id, err := p.Lookup(context.Background(), login("alice", "x")); !errors.Is(err, passdb.ErrUnknownUser) {
			t.Errorf("got %+v, %v, want that the next driver is asked", id, err)
		}
	})
	t.Run("usher.deny", func(t *testing.T) {
		p := newPassdb(t, "function nauthilus_backend_verify_password() "+good+`usher.tempfail() usher.deny("Closed") return 0, b end`)
		id, err := p.Lookup(context.Background(), login("alice", "x"))
		if den := (*proxy.Denial)(nil); !errors.As(err, &den) || den.Text != "Closed" || den.Reason != proxy.PolicyRefused {
			t.Errorf("got %+v, %v, want a refusal", id, err)
		}
	})
	t.Run("a text for who is refused", func(t *testing.T) {
		p := newPassdb(t, `function nauthilus_backend_verify_password() nauthilus_builtin.status_message_set("Closed") local b = nauthilus_backend_result.new() b:user_found(true) return 0, b end`)
		_, err := p.Lookup(context.Background(), login("alice", "x"))
		if den := (*proxy.Denial)(nil); !errors.As(err, &den) || den.Text != "Closed" {
			t.Errorf("got %v", err)
		}
	})
}

func TestPassdb_List(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"no table", `return 0, "alice"`, "a string; expected"},
		{"a failure", `return 1, {}`, "returned 1"},
		{"no name", `return 0, {"alice", {}}`, "element 2 is no user name"},
		{"a line end in a name", `return 0, {"alice\nbob"}`, "element 1 is no user name"},
	} {
		p := newPassdb(t, "function nauthilus_backend_verify_password() end function nauthilus_backend_list_accounts() "+test.body+" end")
		if err := p.List(context.Background(), "", func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	p := newPassdb(t, `function nauthilus_backend_verify_password() end
		function nauthilus_backend_list_accounts() local t = {1001} for i = 2, 200000 do t[i] = "user" .. i end return 0, t end`)
	n, first := 0, ""
	each := func(user string) bool {
		if n++; n == 1 {
			first = user
		}
		return true
	}
	if err := p.List(context.Background(), "", each); err != nil || n != 200000 || first != "1001" {
		t.Errorf("many users: %d, %s, %v", n, first, err)
	}
}
