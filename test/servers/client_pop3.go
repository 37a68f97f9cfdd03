package servers

import (
	"crypto/md5"
	"encoding/hex"
	"regexp"
)

var apopSalt = regexp.MustCompile(`<[^<>]+>`)

// APOP logs in by RFC 1939's APOP, whose salt was in the greeting.
func (c *Client) APOP(user, pass string) string {
	c.t.Helper()
	salt := apopSalt.FindString(c.greeting)
	if salt == "" {
		c.t.Fatalf("no salt in the greeting %q", c.greeting)
	}
	sum := md5.Sum([]byte(salt + pass))
	c.Writeln("APOP " + user + " " + hex.EncodeToString(sum[:]))
	return final(c.Read())
}

func (c *Client) pop3Login(user, pass string) string {
	c.t.Helper()
	c.Writeln("USER " + user)
	if reply := final(c.Read()); !c.OK(reply) {
		return reply // Dovecot has lost its auth server
	}
	c.Writeln("PASS " + pass)
	return final(c.Read())
}

func (c *Client) pop3Plain(resp string, initial bool) string {
	c.t.Helper()
	if initial {
		c.Writeln("AUTH PLAIN " + resp)
		return final(c.Read())
	}
	c.Writeln("AUTH PLAIN")
	c.ExpectPattern(`^\+`)
	c.Writeln(resp)
	return final(c.Read())
}

func (c *Client) pop3Backend() string {
	c.t.Helper()
	c.Writeln("TOP 1 0")
	c.ExpectPattern(`^\+OK`)
	var found string
	for {
		line := c.Readln()
		if m := markLine.FindStringSubmatch(line); m != nil {
			found = m[1]
		}
		if line == "." {
			break
		}
	}
	if found == "" {
		c.t.Fatal("pop3: the mailbox has no message that names its backend")
	}
	return found
}
