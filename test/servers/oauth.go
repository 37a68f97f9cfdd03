package servers

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// A TokenServer says whose a bearer token is (RFC 7662), to Dovecot's passdb
// oauth2.
type TokenServer struct{ url string }

// StartTokenServer runs one that knows these tokens, by user.
func StartTokenServer(t testing.TB, tokens map[string]string) *TokenServer {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for user, token := range tokens {
			if r.URL.Query().Get("token") == token {
				fmt.Fprintf(w, `{"active":true,"username":%q,"access_token":%q}`, user, token)
				return
			}
		}
		fmt.Fprint(w, `{"active":false}`)
	}))
	t.Cleanup(s.Close)
	return &TokenServer{s.URL}
}

// Passdb is the passdb of Dovecot 2.3 that asks it. fields are what it says of
// each user, as pass_attrs has them.
func (s *TokenServer) Passdb(t testing.TB, fields string) string {
	t.Helper()
	args := WriteFile(t, fmt.Sprintf(`introspection_url = %s/?token=
introspection_mode = get
username_attribute = username
active_attribute = active
active_value = true
pass_attrs = %s
`, s.url, fields), Dir(t), "oauth2.conf")
	return fmt.Sprintf(`auth_mechanisms = plain login xoauth2 oauthbearer
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = %s
}
`, args)
}

// StartTokenBackend runs a Dovecot 2.3 at ip whose imap users log in with tokens
// alone. Each INBOX has one message that names ip, see Client.Backend.
func StartTokenBackend(t testing.TB, ip string, tokens *TokenServer, users ...string) *Dovecot {
	t.Helper()
	dir := Dir(t)
	mail := mkdir(t, 0o755, dir, "mail")
	for _, name := range users {
		makeMaildir(t, filepath.Join(mail, name, "Maildir"), ip)
	}
	chown(t, "nobody", mail)
	port := Port(t, ip)
	conf := WriteFile(t, fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
instance_name = token-backend
log_path = /dev/stderr
listen = %[2]s
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
auth_username_chars =
login_trusted_networks = 127.0.0.0/8
mail_location = maildir:~/Maildir
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    port = %[3]d
  }
  inet_listener imaps {
    port = 0
  }
}
%[4]suserdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[5]s/%%u
}
`, dir, ip, port, tokens.Passdb(t, ""), mail), dir, "dovecot.conf")
	d := &Dovecot{Base: filepath.Join(dir, "run"), Addr: map[string]string{"imap": net.JoinHostPort(ip, fmt.Sprint(port))}}
	d.Process = Start(t, "token-backend", "dovecot", "-F", "-c", conf)
	d.Logged(t, 0, "that it starts", func(line string) bool { return strings.Contains(line, "starting up") })
	return d
}

// AuthToken logs in by SASL XOAUTH2 or OAUTHBEARER (RFC 7628), imap only, with or
// without an initial response. Of a refused token it answers the reason as clients
// do.
func (c *Client) AuthToken(mech, user, token string, initial bool) string {
	c.t.Helper()
	msg, ack := "user="+user+"\x01auth=Bearer "+token+"\x01\x01", ""
	if mech == "OAUTHBEARER" {
		user = strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
		msg, ack = "n,a="+user+",\x01host=mail.example.org\x01port=143\x01auth=Bearer "+token+"\x01\x01", encode("\x01")
	}
	tag := c.tag()
	if initial {
		c.Writeln(tag + " AUTHENTICATE " + mech + " " + encode(msg))
	} else {
		c.Writeln(tag + " AUTHENTICATE " + mech)
		c.ExpectPattern(`^\+`)
		c.Writeln(encode(msg))
	}
	for {
		line, err := c.Read()
		if err != nil {
			return Closed
		}
		if strings.HasPrefix(line, "+ ") {
			c.Writeln(ack)
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return rest
		}
	}
}
