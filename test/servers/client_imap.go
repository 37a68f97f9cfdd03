package servers

import (
	"fmt"
	"regexp"
	"strings"
)

var imapQuote = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (c *Client) tag() string {
	c.tags++
	return fmt.Sprintf("A%d", c.tags)
}

// tagged reads up to the line with that tag and returns it without the tag. A
// server that closes the connection may have said why without a tag.
func (c *Client) tagged(tag string) string {
	c.t.Helper()
	last := Closed
	for {
		line, err := c.Read()
		if err != nil {
			return last
		}
		if strings.HasPrefix(line, "* BAD ") || strings.HasPrefix(line, "* BYE ") {
			last = line
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return rest
		}
	}
}

func (c *Client) imapLogin(user, pass string) string {
	c.t.Helper()
	tag := c.tag()
	c.Writeln(fmt.Sprintf(`%s LOGIN "%s" "%s"`, tag, imapQuote.Replace(user), imapQuote.Replace(pass)))
	return c.tagged(tag)
}

func (c *Client) imapPlain(resp string, initial bool) string {
	c.t.Helper()
	tag := c.tag()
	if initial {
		c.Writeln(tag + " AUTHENTICATE PLAIN " + resp)
		return c.tagged(tag)
	}
	c.Writeln(tag + " AUTHENTICATE PLAIN")
	c.ExpectPattern(`^\+`)
	c.Writeln(resp)
	return c.tagged(tag)
}

var markLine = regexp.MustCompile(markPattern)

func (c *Client) imapBackend() string {
	c.t.Helper()
	tag := c.tag()
	c.Writeln(tag + " EXAMINE INBOX")
	if reply := c.tagged(tag); !strings.HasPrefix(reply, "OK") {
		c.t.Fatalf("imap: EXAMINE: %s", reply)
	}
	tag = c.tag()
	c.Writeln(tag + " FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
	for {
		line := c.Readln()
		if m := markLine.FindStringSubmatch(line); m != nil {
			c.tagged(tag)
			return m[1]
		}
		if strings.HasPrefix(line, tag+" ") {
			c.t.Fatalf("imap: the mailbox has no message that names its backend: %s", line)
		}
	}
}

// Idle opens INBOX and waits for news there (RFC 2177).
func (c *Client) Idle() {
	c.t.Helper()
	tag := c.tag()
	c.Writeln(tag + " EXAMINE INBOX")
	if reply := c.tagged(tag); !strings.HasPrefix(reply, "OK") {
		c.t.Fatalf("imap: EXAMINE: %s", reply)
	}
	c.Writeln(c.tag() + " IDLE")
	c.ExpectPattern(`^\+ `)
}

// Done ends what Idle began, and returns the server's word on it.
func (c *Client) Done() string {
	c.t.Helper()
	c.Writeln("DONE")
	return c.tagged(fmt.Sprintf("A%d", c.tags))
}
