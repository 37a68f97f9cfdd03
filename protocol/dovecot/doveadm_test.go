package dovecot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy"
	"usher/proxy/moves"
)

// A listed is a session as a fakeWire lists it.
type listed struct{ user, pid, host string }

// A fakeWire is a Dovecot that lists sessions and notes what it is asked.
type fakeWire struct {
	version  doveadmDialect
	sessions []listed
	counts   int    // of a kick
	fault    string // of a kick
	err      error

	asked    []string // kicks: the name, host= where there is one, names
	dialects int
}

func (w *fakeWire) dialect(context.Context) (doveadmDialect, error) {
	w.dialects++
	return w.version, w.err
}

func (w *fakeWire) run(_ context.Context, commands []doveadmCommand) ([]doveadmReply, error) {
	var out []doveadmReply
	for _, c := range commands {
		var r doveadmReply
		switch c.name {
		case "who":
			if len(c.names) != 1 {
				return nil, fmt.Errorf("masks %q", c.names)
			}
			for _, s := range w.sessions {
				if c.names[0] != "*" && !strings.EqualFold(c.names[0], s.user) {
					continue
				}
				r.values = append(appendEscaped(r.values, s.user), "\timap\t"+s.pid+"\t192.0.2.7\t"...)
				if w.version == doveadm24 {
					r.values = append(r.values, s.host+"\t"...)
				}
			}
		case "proxy list":
			for _, s := range w.sessions {
				r.values = append(appendEscaped(r.values, s.user), "\timap\t192.0.2.7\t"+s.host+"\t143\t"...)
			}
		default:
			host := ""
			if c.host != "" {
				host = " host=" + c.host
			}
			w.asked = append(w.asked, fmt.Sprintf("%s%s %q", c.name, host, c.names))
			r = doveadmReply{values: fmt.Appendf(nil, "%d\t", w.counts), fault: w.fault}
		}
		out = append(out, r)
	}
	return out, w.err
}

func fakeDoveadm(w *fakeWire, role moves.Role) *Doveadm {
	return &Doveadm{name: "fake", role: role, web: true, wire: w, timeout: time.Second, secrets: []proxy.Secret{{}}}
}

const hostA, hostB = "192.0.2.1", "2001:db8::2"

// What is asked of a server to kick, and why it is not.
func TestDoveadm_Kick(t *testing.T) {
	long := strings.Repeat("x", maxDoveadmName)
	for name, x := range map[string]struct {
		version  doveadmDialect
		role     moves.Role
		sessions []listed
		users    []string
		host     string
		want     []string
		fault    string // part of the error's words; "": none
	}{
		"Proxy23":         {version: doveadm23, role: moves.Proxy, users: []string{"b", "a*", "b"}, want: []string{`proxy kick ["a*" "b"]`}},
		"Proxy23_Host":    {version: doveadm23, role: moves.Proxy, users: []string{"a", "b", "c"}, host: "::ffff:" + hostA, sessions: []listed{{"a", "", hostA}, {"a", "", hostB}, {"b", "", hostB}}, want: []string{`proxy kick ["a"]`}},
		"Proxy23_Nothing": {version: doveadm23, role: moves.Proxy, users: []string{"a", "b"}, host: hostA, want: []string{`proxy kick ["a" "b"]`}},
		"Proxy23_NotHere": {version: doveadm23, role: moves.Proxy, users: []string{"b"}, host: hostA, sessions: []listed{{"b", "", hostB}}},

		"Backend23":         {version: doveadm23, role: moves.Backend, users: []string{"b", "a", "c"}, host: hostA, sessions: []listed{{"a", "1", ""}, {"b", "2", ""}, {"b", "2", ""}, {"d", "3", ""}}, want: []string{`kick ["a"]`, `kick ["b"]`}},
		"Backend23_Shared":  {version: doveadm23, role: moves.Backend, users: []string{"a", "b"}, sessions: []listed{{"a", "1", ""}, {"b", "2", ""}, {"d", "2", ""}}, want: []string{`kick ["a"]`}, fault: `"b" is not kicked: a process`},
		"Backend23_All":     {version: doveadm23, role: moves.Backend, users: []string{"a", "b"}, sessions: []listed{{"a", "1", ""}, {"b", "1", ""}}, want: []string{`kick ["a"]`, `kick ["b"]`}},
		"Backend23_Case":    {version: doveadm23, role: moves.Backend, users: []string{"a"}, sessions: []listed{{"a", "1", ""}, {"A", "2", ""}}, fault: "case alone"},
		"Backend23_Mask":    {version: doveadm23, role: moves.Backend, users: []string{"a*", "b?", "::/0", "10.1"}, sessions: []listed{{"a*", "1", ""}, {"::/0", "1", ""}, {"10.1", "1", ""}}, fault: `"::/0" is not kicked`},
		"Backend23_Nothing": {version: doveadm23, role: moves.Backend, users: []string{"a*"}},

		"24":              {version: doveadm24, role: moves.Proxy, users: []string{"b", "a"}, want: []string{`kick ["a"]`, `kick ["b"]`}},
		"24_Backend":      {version: doveadm24, role: moves.Backend, users: []string{"a"}, host: hostA, want: []string{`kick ["a"]`}},
		"24_Mask":         {version: doveadm24, role: moves.Proxy, users: []string{"a?", "b", "c*"}, sessions: []listed{{"a?", "1", hostA}, {"b", "1", hostA}}, want: []string{`kick ["b"]`}, fault: `"a?" is not kicked: Dovecot takes`},
		"24_MaskNothing":  {version: doveadm24, role: moves.Proxy, users: []string{"a?"}},
		"24_Case":         {version: doveadm24, role: moves.Proxy, users: []string{"a"}, sessions: []listed{{"a", "1", hostA}, {"A", "2", hostA}}, want: []string{`kick ["a"]`}},
		"24_Host":         {version: doveadm24, role: moves.Proxy, users: []string{"a", "b", "c"}, host: hostB, sessions: []listed{{"a", "1", hostA}, {"a", "1", hostB}, {"b", "2", hostB}, {"c", "2", hostA}, {"A", "2", hostA}}, want: []string{`kick host=` + hostB + ` ["a"]`, `kick ["b"]`}},
		"24_HostCase":     {version: doveadm24, role: moves.Proxy, users: []string{"a"}, host: hostB, sessions: []listed{{"a", "1", hostA}, {"a", "1", hostB}, {"A", "2", hostB}}, fault: "case alone"},
		"24_HostSameCase": {version: doveadm24, role: moves.Proxy, users: []string{"a"}, host: hostB, sessions: []listed{{"a", "1", hostB}, {"A", "2", hostB}}, want: []string{`kick ["a"]`}},

		"Nobody":  {version: doveadm24, role: moves.Proxy, fault: "no user"},
		"Empty":   {version: doveadm24, role: moves.Proxy, users: []string{"a", ""}, fault: "empty"},
		"NUL":     {version: doveadm23, role: moves.Proxy, users: []string{"a\x00b"}, fault: "NUL"},
		"NoUTF8":  {version: doveadm23, role: moves.Proxy, users: []string{"a\xff"}, fault: "UTF-8"},
		"Long":    {version: doveadm23, role: moves.Proxy, users: []string{long}, want: []string{fmt.Sprintf("proxy kick [%q]", long)}},
		"TooLong": {version: doveadm23, role: moves.Proxy, users: []string{long + "x"}, fault: "at most"},
		"Name":    {version: doveadm24, role: moves.Proxy, users: []string{"a"}, host: "mail.example.org", fault: "no IP address"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &fakeWire{version: x.version, sessions: x.sessions}
			err := fakeDoveadm(w, x.role).Kick(t.Context(), x.users, x.host)
			if (err != nil) != (x.fault != "") || err != nil && (!strings.Contains(err.Error(), x.fault) || !strings.HasPrefix(err.Error(), "doveadm fake: kick: ")) {
				t.Errorf("error %v, want one with %q", err, x.fault)
			}
			if !slices.Equal(w.asked, x.want) {
				t.Errorf("asked %q, want %q", w.asked, x.want)
			}
		})
	}
}

// Many names are many commands, and many requests.
func TestDoveadm_KickMany(t *testing.T) {
	var users []string
	for i := range 1001 {
		users = append(users, fmt.Sprintf("u%04d", i))
	}
	for version, want := range map[doveadmDialect]int{doveadm23: 11, doveadm24: 1001} {
		w := &fakeWire{version: version}
		if err := fakeDoveadm(w, moves.Proxy).Kick(t.Context(), users, ""); err != nil || len(w.asked) != want {
			t.Errorf("%d commands, want %d; error %v", len(w.asked), want, err)
		}
	}
}

func TestDoveadm_Sessions(t *testing.T) {
	sessions := []listed{{"a", "1", hostA}, {"A", "1", hostA}, {"a*", "2", hostA}, {"local", "3", ""}, {"a", "4", "::ffff:" + hostA}}
	of := func(s []moves.Session) string {
		var out []string
		for _, x := range s {
			out = append(out, x.User+"@"+x.Host)
		}
		return strings.Join(out, " ")
	}
	many := []string{"a"}
	for i := range 20 {
		many = append(many, fmt.Sprint("u", i))
	}
	for _, x := range []struct {
		version doveadmDialect
		role    moves.Role
		users   []string
		want    string
	}{
		{doveadm23, moves.Proxy, nil, "a@192.0.2.1 A@192.0.2.1 a*@192.0.2.1 a@192.0.2.1"},
		{doveadm23, moves.Proxy, []string{"a*"}, "a*@192.0.2.1"},
		{doveadm23, moves.Backend, []string{"a"}, "a@ a@"},
		{doveadm23, moves.Backend, nil, "a@ A@ a*@ local@ a@"},
		{doveadm24, moves.Proxy, []string{"a"}, "a@192.0.2.1 a@192.0.2.1"},
		{doveadm24, moves.Proxy, many, "a@192.0.2.1 a@192.0.2.1"},
		{doveadm24, moves.Proxy, []string{"a*", "a"}, "a@192.0.2.1 a*@192.0.2.1 a@192.0.2.1"},
		{doveadm24, moves.Proxy, []string{"local"}, ""},
		{doveadm24, moves.Backend, []string{"local", "A"}, "local@ A@192.0.2.1"},
	} {
		got, err := fakeDoveadm(&fakeWire{version: x.version, sessions: sessions}, x.role).Sessions(t.Context(), x.users)
		if err != nil || of(got) != x.want {
			t.Errorf("2.%d %s %q: %q, want %q; error %v", x.version+2, x.role, x.users, of(got), x.want, err)
		}
	}
}

// Which version it is is asked once in a while, and again after a fault.
func TestDoveadm_Dialect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{version: doveadm23}
		d := fakeDoveadm(w, moves.Proxy)
		expect := func(fails bool, dialects int) {
			t.Helper()
			if err := d.Kick(t.Context(), []string{"a"}, ""); (err != nil) != fails || w.dialects != dialects {
				t.Errorf("error %v, asked %d times, want %d", err, w.dialects, dialects)
			}
		}
		expect(false, 1)
		expect(false, 1)
		time.Sleep(knownFor)
		expect(false, 2)
		w.fault = "invalidRequest"
		expect(true, 2)
		w.version, w.fault = doveadm24, notFound
		expect(false, 3)
		if last := w.asked[len(w.asked)-1]; last != `kick ["a"]` {
			t.Errorf("asked %s", last)
		}
		w.fault = tempFail
		if err := d.Kick(t.Context(), []string{"a"}, ""); !errors.Is(err, moves.ErrAgain) || !strings.Contains(err.Error(), "TEMPFAIL") || w.dialects != 3 {
			t.Errorf("error %v, asked %d times", err, w.dialects)
		}
		w.err = errors.New("gone")
		expect(true, 3)
		expect(true, 4)
	})
}

// Only a 2.4 proxy that counts what it does not end is doubted.
func TestDoveadm_Doubt(t *testing.T) {
	for _, x := range []struct {
		version doveadmDialect
		role    moves.Role
		counts  int
		doubt   bool
	}{
		{doveadm24, moves.Proxy, 1, true}, {doveadm24, moves.Proxy, 0, false}, {doveadm24, moves.Backend, 1, false}, {doveadm23, moves.Proxy, 1, false},
	} {
		d := fakeDoveadm(&fakeWire{version: x.version, counts: x.counts}, x.role)
		if err := d.Kick(t.Context(), []string{"a"}, ""); err != nil {
			t.Fatal(err)
		}
		if got := d.Doubt(); (got != "") != x.doubt {
			t.Errorf("%+v: %q", x, got)
		}
	}
}

func TestNewDoveadm(t *testing.T) {
	secret := proxy.NewSecret("hush")
	for _, x := range []struct {
		opt  DoveadmOptions
		name string // "": an error
	}{
		{DoveadmOptions{URL: "tcp:127.0.0.1:24245", Password: secret}, "tcp:127.0.0.1:24245"},
		{DoveadmOptions{URL: "https://[::1]:8080/", APIKey: secret}, "https://[::1]:8080"},
		{DoveadmOptions{URL: "http://h:1", Password: secret}, "http://h:1"},
		{DoveadmOptions{URL: "http://hush:hush@h:1", Password: secret}, ""},
		{DoveadmOptions{URL: "http://%zz", Password: secret}, ""},
		{DoveadmOptions{URL: "ftp://h:1", Password: secret}, ""},
		{DoveadmOptions{URL: "http://h:1"}, ""},
		{DoveadmOptions{URL: "tcp:h:1", APIKey: secret}, ""},
		{DoveadmOptions{URL: "tcp:h", Password: secret}, ""},
	} {
		x.opt.Role = moves.Proxy
		d, err := NewDoveadm(x.opt)
		switch {
		case (err == nil) != (x.name != ""):
			t.Errorf("%s: error %v", x.opt.URL, err)
		case err == nil && d.Name() != x.name:
			t.Errorf("%s: name %q", x.opt.URL, d.Name())
		case err != nil && strings.Contains(err.Error(), "hush"):
			t.Errorf("an error with a secret: %v", err)
		}
	}
	if _, err := NewDoveadm(DoveadmOptions{URL: "http://h:1", APIKey: secret}); err == nil {
		t.Error("no role, no error")
	}
}

func TestIsMask(t *testing.T) {
	for _, s := range []string{"*", "a*b", "a?", "10.0.0.1", "10.0.0.1/8", "10/8", "10.1", "0x7f.1", "0X7F000001", "010.1 x", "::", "::1/64", "[::1]", "fe80::1%eth0", "::ffff:10.0.0.1"} {
		if !isMask(s) {
			t.Errorf("%q is taken for a name", s)
		}
	}
	for _, s := range []string{"alice@example.org", "10", "0", "a", "12ab", "1.2.3.4.5", "10.example.org", "a:bob::", "user:1", `DOM\user`, "", "/24", ".", "1..2", "x1.2"} {
		if isMask(s) {
			t.Errorf("%q is taken for a pattern", s)
		}
	}
}
