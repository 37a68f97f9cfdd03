package dovecot

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"usher/proxy/moves"
)

// flat joins values as doveadm prints them: rows in lines, values with spaces.
func flat(rows string) []byte {
	return []byte(strings.NewReplacer(" ", "\t", "\n", "\t", "_", "").Replace(strings.TrimSpace(rows) + "\n"))
}

func TestParseProxyList(t *testing.T) {
	const header = "username service src-ip dest-ip dest-port\n"
	for name, x := range map[string]struct {
		in    string
		width int
		want  string // user>host, or "" for an error
	}{
		"One":       {in: "a imap 192.0.2.7 192.0.2.1 143", want: "a>192.0.2.1"},
		"Processes": {in: "a imap 192.0.2.7 192.0.2.1 143\n" + header + header + "b pop3 ::1 ::ffff:192.0.2.2 110\n" + header, want: "a>192.0.2.1 b>192.0.2.2"},
		"NoneFirst": {in: header + "b pop3 ::1 192.0.2.2 110", want: "b>192.0.2.2"},
		"Field":     {in: "a x imap 192.0.2.7 192.0.2.1 143\nb _ imap 192.0.2.7 192.0.2.1 143", want: "a>192.0.2.1 b>192.0.2.1"},
		"Fields": {in: "a x imap 192.0.2.7 192.0.2.1 143\n" + header + "b imap 192.0.2.7 192.0.2.1 143\n" +
			"username user-username user-b service src-ip dest-ip dest-port\nc 1 2 imap 192.0.2.7 192.0.2.3 143", want: "a>192.0.2.1 b>192.0.2.1 c>192.0.2.3"},
		"FieldsWidth": {in: "a x imap 192.0.2.7 192.0.2.1 143", width: 6, want: "a>192.0.2.1"},
		"LikeHeader":  {in: "username service 192.0.2.7 192.0.2.1 143\nservice imap 192.0.2.7 192.0.2.1 143", want: "username>192.0.2.1 service>192.0.2.1"},
		"WrongWidth":  {in: "a imap 192.0.2.7 192.0.2.1 143", width: 6},
		"Short":       {in: "a imap 192.0.2.7 192.0.2.1"},
		"Text":        {in: "a imap 192.0.2.7 mail.example.org 143"},
		"Port":        {in: "a imap 192.0.2.7 192.0.2.1 x"},
		"WidthLost":   {in: header + "a x imap 192.0.2.7 192.0.2.1 143"},
	} {
		rows, err := parseProxyList(flat(x.in), x.width)
		expectRows(t, name, rows, err, x.want)
	}
	if rows, err := parseProxyList(nil, 0); err != nil || len(rows) > 0 {
		t.Errorf("nothing: %v, error %v", rows, err)
	}
}

func expectRows(t *testing.T, name string, rows []doveadmRow, err error, want string) {
	t.Helper()
	var got []string
	for _, r := range rows {
		got = append(got, r.user+">"+r.host)
	}
	if (err == nil) != (want != "") || strings.Join(got, " ") != want {
		t.Errorf("%s: %q, want %q; error %v", name, got, want, err)
	}
}

func TestParseWho(t *testing.T) {
	for name, x := range map[string]struct {
		in      string
		version doveadmDialect
		width   int
		want    string
	}{
		"23":        {in: "a imap 1 192.0.2.7\nb pop3 2 _", version: doveadm23, want: "a> b>"},
		"23_Width":  {in: "a imap 1 192.0.2.7", version: doveadm23, width: 4, want: "a>"},
		"23_Wide":   {in: "a imap 1 192.0.2.7 x", version: doveadm23, width: 5, want: "a>"},
		"24":        {in: "a imap 1 192.0.2.7 192.0.2.1\nb imap-login 2 ::1 _", version: doveadm24, want: "a>192.0.2.1 b>"},
		"24_Fields": {in: "a imap 1 192.0.2.7 192.0.2.1 x y\nb imap 2 ::1 _ _ z", version: doveadm24, want: "a>192.0.2.1 b>"},
		"24_Width":  {in: "a imap 1 192.0.2.7 192.0.2.1 x y\nb imap 2 ::1 _ _ z", version: doveadm24, width: 7, want: "a>192.0.2.1 b>"},
		"24_Narrow": {in: "a imap 1 192.0.2.7", version: doveadm24, width: 4},
		"24_Pid":    {in: "a imap x 192.0.2.7 192.0.2.1", version: doveadm24},
	} {
		rows, err := parseWho(flat(x.in), x.version, x.width)
		expectRows(t, name, rows, err, x.want)
	}
	rows, err := parseWho([]byte("t\x01ta\x01nb\timap-login\t7\t::ffff:192.0.2.7\t\t"), doveadm24, 0)
	if want := []doveadmRow{{user: "t\ta\nb", service: "imap", remote: "192.0.2.7", pid: "7"}}; err != nil || !slices.Equal(rows, want) {
		t.Errorf("%+v, want %+v; error %v", rows, want, err)
	}
	if _, err := parseWho(bytes.Repeat([]byte("a\ti\t1\t\t"), moves.MaxSessions+1), doveadm23, 0); !errors.Is(err, errManySessions) {
		t.Errorf("too many: error %v", err)
	}
}

// FuzzDoveadmList: any list is read to its last value or is an error, and what was
// read makes the same list again.
func FuzzDoveadmList(f *testing.F) {
	f.Add([]byte("a\timap\t192.0.2.7\t192.0.2.1\t143\tusername\tservice\tsrc-ip\tdest-ip\tdest-port\t"), 0)
	f.Add([]byte("a\timap\t1\t192.0.2.7\t192.0.2.1\tx\t"), 6)
	f.Add([]byte("a\timap\t1\t192.0.2.7\t"), 4)
	f.Add([]byte("username\tuser_username\tservice\tsrc-ip\tdest-ip\tdest-port\tservice\tsrc-ip\tdest-ip\tdest-port\t"), 0)
	f.Fuzz(func(t *testing.T, values []byte, width int) {
		for _, version := range []doveadmDialect{doveadm23, doveadm24} {
			rows, err := parseWho(values, version, width)
			if err != nil {
				continue
			}
			n := bytes.Count(values, []byte{'\t'})
			if len(rows) == 0 != (n == 0) || len(rows) > 0 && n%len(rows) != 0 {
				t.Errorf("%d rows of %d values", len(rows), n)
			}
			var again []byte
			for _, r := range rows {
				again = append(appendEscaped(again, r.user), '\t')
				again = append(appendEscaped(again, r.service), "\t"+r.pid+"\t"+r.remote+"\t"...)
				if version == doveadm24 {
					again = append(again, r.host+"\t"...)
				}
			}
			if back, err := parseWho(again, version, 0); err != nil && len(rows) > 0 && !anyEmptyService(rows) || err == nil && len(back) != len(rows) {
				t.Errorf("%q again: %d rows of %d, error %v", again, len(back), len(rows), err)
			}
		}
		rows, err := parseProxyList(values, width)
		if err == nil && len(rows)*5 > bytes.Count(values, []byte{'\t'}) {
			t.Errorf("%d rows of %q", len(rows), values)
		}
	})
}

// anyEmptyService: a service that was `-login` alone, which Dovecot has not.
func anyEmptyService(rows []doveadmRow) bool {
	return slices.ContainsFunc(rows, func(r doveadmRow) bool { return r.service == "" })
}
