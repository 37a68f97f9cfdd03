package test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"usher/test/servers"
)

// A saslClient says its next message to the server's last one, nil for the first
// of a mechanism in which the server begins.
type saslClient func(challenge string) string

// mechanisms are clients that show no password to whoever reads along.
var mechanisms = map[string]func(user, pass string) saslClient{
	"CRAM-MD5":      cramMD5,
	"DIGEST-MD5":    digestMD5,
	"SCRAM-SHA-1":   func(user, pass string) saslClient { return scram(sha1.New, user, pass) },
	"SCRAM-SHA-256": func(user, pass string) saslClient { return scram(sha256.New, user, pass) },
}

// cramMD5 is RFC 2195.
func cramMD5(user, pass string) saslClient {
	return func(challenge string) string {
		mac := hmac.New(md5.New, []byte(pass))
		mac.Write([]byte(challenge))
		return user + " " + hex.EncodeToString(mac.Sum(nil))
	}
}

// digestMD5 is RFC 2831, quality of protection auth; to the server's last word it
// answers with nothing.
func digestMD5(user, pass string) saslClient {
	return func(challenge string) string {
		nonce := regexp.MustCompile(`nonce="([^"]*)"`).FindStringSubmatch(challenge)
		if nonce == nil {
			return ""
		}
		const realm, cnonce, uri = "", "0a1b2c", "imap/localhost"
		sum := func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }
		secret := md5.Sum([]byte(user + ":" + realm + ":" + pass))
		a1 := sum(string(secret[:]) + ":" + nonce[1] + ":" + cnonce)
		response := sum(a1 + ":" + nonce[1] + ":00000001:" + cnonce + ":auth:" + sum("AUTHENTICATE:"+uri))
		return fmt.Sprintf(`username="%s",realm="%s",nonce="%s",cnonce="%s",nc=00000001,qop=auth,digest-uri="%s",response=%s,charset=utf-8`,
			user, realm, nonce[1], cnonce, uri, response)
	}
}

// scram is RFC 5802.
func scram(h func() hash.Hash, user, pass string) saslClient {
	first := "n=" + user + ",r=fyko-d2lbbFgONRv9qkxdawL"
	sum := func(key []byte, text string) []byte {
		mac := hmac.New(h, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	step := 0
	return func(challenge string) string {
		step++
		switch step {
		case 1:
			return "n,," + first
		case 2:
			m := regexp.MustCompile(`^r=([^,]*),s=([^,]*),i=([0-9]+)$`).FindStringSubmatch(challenge)
			if m == nil {
				return "no challenge: " + challenge
			}
			salt, err := base64.StdEncoding.DecodeString(m[2])
			if err != nil {
				return err.Error()
			}
			rounds, err := strconv.Atoi(m[3])
			if err != nil {
				return err.Error()
			}
			salted, err := pbkdf2.Key(h, pass, salt, rounds, h().Size())
			if err != nil {
				return err.Error()
			}
			client := sum(salted, "Client Key")
			stored := h()
			stored.Write(client)
			last := "c=biws,r=" + m[1]
			proof := sum(stored.Sum(nil), first+","+challenge+","+last)
			for i := range proof {
				proof[i] ^= client[i]
			}
			return last + ",p=" + base64.StdEncoding.EncodeToString(proof)
		}
		return "" // to the server's signature
	}
}

// authenticate plays a whole exchange and returns its last line, and how often
// the server asked for more.
func authenticate(t *testing.T, c *servers.AuthClient, id int, mech string, client saslClient) (reply string, steps int) {
	t.Helper()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	line := fmt.Sprintf("AUTH\t%d\t%s\tservice=imap\tsecured\tlip=127.0.0.1\tlport=143\trip=192.0.2.7\trport=4711", id, mech)
	if strings.HasPrefix(mech, "SCRAM") {
		line += "\tresp=" + encode(client(""))
	}
	c.Say(line)
	for {
		reply = c.Hear()
		challenge, ok := strings.CutPrefix(reply, fmt.Sprintf("CONT\t%d\t", id))
		if !ok {
			return reply, steps
		}
		steps++
		text, err := base64.StdEncoding.DecodeString(challenge)
		if err != nil {
			t.Fatalf("%q: %v", reply, err)
		}
		c.Say(fmt.Sprintf("CONT\t%d\t%s", id, encode(client(string(text)))))
	}
}

// Mechanisms of several steps, in which nobody between sees a password, pass
// through usher to a real auth server; the OK is routed, and logs in at the
// backend as the configured master user.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	r := startDirectorRig(t, "")
	c := servers.DialAuth(t, r.sock, 4100)
	id := 0
	for mech, client := range mechanisms {
		t.Run(mech, func(t *testing.T) {
			id++
			reply, steps := authenticate(t, c, id, mech, client("plain", "secret"))
			want := fmt.Sprintf("OK\t%d\tuser=plain\tproxy\tport=%s\tlip=127.0.0.1\tlport=143\tmaster=usher\tpass=mastersecret\tproxy_refresh=450\thost=127.0.0.2", id, r.port)
			if mech == "DIGEST-MD5" || strings.HasPrefix(mech, "SCRAM") {
				// The server's last SASL data may come along (final-resp-ok).
				reply = regexp.MustCompile(`\tresp=[^\t]*`).ReplaceAllString(reply, "")
			}
			if reply != want || steps == 0 {
				t.Errorf("after %d challenges\n got  %q\n want %q", steps, reply, want)
			}
			id++
			if reply, _ := authenticate(t, c, id, mech, client("plain", "wrong")); !strings.HasPrefix(reply, fmt.Sprintf("FAIL\t%d\tuser=plain", id)) || strings.Contains(reply, "temp") {
				t.Errorf("a wrong password: %q", reply)
			}
			// What auth says itself goes before the configuration.
			id++
			reply, _ = authenticate(t, c, id, mech, client("master", "secret"))
			if !strings.Contains(reply, "\tmaster=postmaster\tpass=mastersecret\t") || strings.Contains(reply, "usher") {
				t.Errorf("auth names a master user: %q", reply)
			}
		})
	}
	// What needs no more than one message, where nobody has a password: auth says
	// an empty one, with which no backend lets anybody in.
	director := servers.DialAuth(t, r.Login, 4101)
	const cert = "EXTERNAL\tservice=imap\tsecured\tlip=127.0.0.1\tlport=143\tvalid-client-cert\tcert_username="
	for _, tc := range []struct{ name, line, want string }{
		{"ANONYMOUS", "ANONYMOUS\tservice=imap\tresp=", "OK\t%d\tuser=guest\tanonymous"},
		{"EXTERNAL/routed", cert + "card\tresp=", "OK\t%d\tuser=card\tproxy\tport=PORT\tlip=127.0.0.1\tlport=143\toriginal_user=\tpass=\tproxy_refresh=450\thost=127.0.0.2"},
		{"EXTERNAL/local", cert + "cardlocal\tresp=", "OK\t%d\tuser=cardlocal\toriginal_user="},
		{"EXTERNAL/has_a_password", cert + "plain\tresp=", "FAIL\t%d\tuser=plain\toriginal_user="},
		{"EXTERNAL/no_certificate", "EXTERNAL\tservice=imap\tsecured\tresp=Y2FyZA==", "FAIL\t%d"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id++
			line := fmt.Sprintf("AUTH\t%d\t%s", id, tc.line)
			want := strings.Replace(fmt.Sprintf(tc.want, id), "PORT", r.port, 1)
			director.Say(line)
			if got := director.Hear(); got != want {
				t.Errorf("\n director %q\n want     %q", got, want)
			}
			c.Say(line)
			want = strings.Replace(want, "\tpass=\t", "\tmaster=usher\tpass=mastersecret\t", 1)
			if got := c.Hear(); got != want {
				t.Errorf("\n usher %q\n want  %q", got, want)
			}
		})
	}
}
