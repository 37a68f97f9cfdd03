package dovecot

import (
	"strings"
	"testing"
)

func TestParseOAuth(t *testing.T) {
	for _, tc := range []struct {
		name, mech, in, user, token, err string
	}{
		{"RFC 7628's example", "OAUTHBEARER", "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
			"user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", ""},
		{"no channel binding, but could", "OAUTHBEARER", "y,a=u,\x01auth=bearer t\x01\x01", "u", "t", ""},
		{"escaped name", "OAUTHBEARER", "n,a=a=2Cb=3Dc,\x01auth=BEARER t\x01\x01", "a,b=c", "t", ""},
		{"bad escape", "OAUTHBEARER", "n,a=a=2Db,\x01auth=Bearer t\x01\x01", "", "", "expected =2C or =3D"},
		{"bad escape at the end", "OAUTHBEARER", "n,a=a=,\x01auth=Bearer t\x01\x01", "", "", "expected =2C or =3D"},
		{"no user", "OAUTHBEARER", "n,,\x01auth=Bearer t\x01\x01", "", "", "no user name"},
		{"an empty user", "OAUTHBEARER", "n,a=,\x01auth=Bearer t\x01\x01", "", "", "no user name"},
		{"channel binding", "OAUTHBEARER", "p=tls-exporter,a=u,\x01auth=Bearer t\x01\x01", "", "", "no channel binding"},
		{"non-standard", "OAUTHBEARER", "F,n,a=u,\x01auth=Bearer t\x01\x01", "", "", "expected n or y"},
		{"a comma in the name", "OAUTHBEARER", "n,a=u,b=v,\x01auth=Bearer t\x01\x01", "", "", "does not end"},
		{"the client gives up", "OAUTHBEARER", "n,,\x01\x01", "", "", "no user name"},
		{"no header", "OAUTHBEARER", "auth=Bearer t\x01\x01", "", "", "no GS2 header"},
		{"nothing", "OAUTHBEARER", "", "", "", "no key=value pairs"},
		{"another scheme", "OAUTHBEARER", "n,a=u,\x01auth=Basic dTpw\x01\x01", "", "", "no bearer token"},
		{"no token", "OAUTHBEARER", "n,a=u,\x01auth=Bearer \x01\x01", "", "", "no bearer token"},
		{"a space in the token", "OAUTHBEARER", "n,a=u,\x01auth=Bearer a b\x01\x01", "", "", "no bearer token"},
		{"two tokens", "OAUTHBEARER", "n,a=u,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", "", "", "two tokens"},
		{"cut off", "OAUTHBEARER", "n,a=u,\x01auth=Bearer t\x01", "", "", "no 0x01 0x01"},

		{"usual", "XOAUTH2", "user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01",
			"someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", ""},
		{"an equals sign in the name", "XOAUTH2", "user=a=2C\x01auth=Bearer t\x01\x01", "a=2C", "t", ""},
		{"no user", "XOAUTH2", "auth=Bearer t\x01\x01", "", "", "no user name"},
		{"two users", "XOAUTH2", "user=u\x01user=v\x01auth=Bearer t\x01\x01", "", "", "two user names"},
		{"no token", "XOAUTH2", "user=u\x01\x01", "", "", "no bearer token"},
		{"no pair", "XOAUTH2", "user\x01auth=Bearer t\x01\x01", "", "", "no key=value pair"},
		{"cut off", "XOAUTH2", "user=u\x01auth=Bearer t", "", "", "no 0x01 0x01"},
	} {
		t.Run(tc.mech+"/"+tc.name, func(t *testing.T) {
			parse := parseOAuthBearer
			if tc.mech == "XOAUTH2" {
				parse = parseXOAuth2
			}
			user, token, err := parse(tc.in)
			if user != tc.user || token != tc.token {
				t.Errorf("user %q, token %q; want %q, %q", user, token, tc.user, tc.token)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want one with %q", err, tc.err)
			}
		})
	}
}

func FuzzParseOAuth(f *testing.F) {
	f.Add("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9d==\x01\x01")
	f.Add("user=u\x01auth=Bearer t\x01\x01")
	f.Add("y,a=a=2Cb=3Dc,\x01auth=bearer t\x01\x01")
	f.Fuzz(func(t *testing.T, s string) {
		for mech, parse := range map[string]func(string) (string, string, error){"OAUTHBEARER": parseOAuthBearer, "XOAUTH2": parseXOAuth2} {
			user, token, err := parse(s)
			if err != nil {
				if user != "" || token != "" {
					t.Errorf("%s: %q, %q beside an error", mech, user, token)
				}
				if i := strings.Index(strings.ToLower(s), "bearer "); i >= 0 && len(s) > i+20 && strings.Contains(err.Error(), s[i+7:i+20]) {
					t.Errorf("%s: the error has the token: %v", mech, err)
				}
				continue
			}
			if user == "" || token == "" || !visible(token) {
				t.Errorf("%s: user %q, token %q", mech, user, token)
			}
			if mech == "OAUTHBEARER" {
				back := "n,a=" + saslName.Replace(user) + ",\x01auth=Bearer " + token + "\x01\x01"
				if u, tok, err := parse(back); u != user || tok != token || err != nil {
					t.Errorf("%q comes back as %q, %q, %v", back, u, tok, err)
				}
			}
			// What login processes write must be the same user's to the backend.
			back, read := "n,a="+user+",\x01auth=Bearer "+token+"\x01\x01", parseOAuthBearer
			if backendMech(mech, user) == "XOAUTH2" {
				back, read = "user="+user+"\x01auth=Bearer "+token+"\x01\x01", parseXOAuth2
			}
			if u, tok, err := read(back); u != user || tok != token || err != nil {
				t.Errorf("the backend reads %q as %q, %q, %v", back, u, tok, err)
			}
		}
	})
}
