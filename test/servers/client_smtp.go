package servers

import (
	"regexp"
)

// hello says EHLO or LHLO.
func (c *Client) hello(verb string) {
	c.t.Helper()
	c.Writeln(verb + " client.example")
	for {
		if line := c.ExpectPattern(`^250`); line[3] == ' ' {
			return
		}
	}
}

func (c *Client) smtpLogin(user, pass string) string {
	c.t.Helper()
	c.Writeln("AUTH LOGIN")
	c.ExpectPattern(`^334 VXNlcm5hbWU6`)
	c.Writeln(encode(user))
	c.ExpectPattern(`^334 UGFzc3dvcmQ6`)
	c.Writeln(encode(pass))
	return final(c.Read())
}

func (c *Client) smtpPlain(resp string, initial bool) string {
	c.t.Helper()
	if initial {
		c.Writeln("AUTH PLAIN " + resp)
		return final(c.Read())
	}
	c.Writeln("AUTH PLAIN")
	c.ExpectPattern(`^334`)
	c.Writeln(resp)
	return final(c.Read())
}

// sinkLine is SMTPSink's answer to VRFY, alone or relayed by Dovecot's submission.
var sinkLine = regexp.MustCompile(`^250 (?:2\.0\.0 )?(\S+) for (\S+)$`)

func (c *Client) smtpBackend() string {
	c.t.Helper()
	c.Writeln("VRFY postmaster")
	line := c.Readln()
	m := sinkLine.FindStringSubmatch(line)
	if m == nil {
		c.t.Fatalf("smtp: the backend does not name itself: %q", line)
	}
	return m[1]
}

// SMTPStartTLS goes on in TLS (RFC 3207).
func (c *Client) SMTPStartTLS(cert *Certificate) {
	c.t.Helper()
	c.Writeln("STARTTLS")
	c.ExpectPattern(`^220 `)
	c.StartTLS(cert)
	c.hello("EHLO")
}

// LoginInitial logs in by AUTH LOGIN with the user name as initial response.
func (c *Client) LoginInitial(user, pass string) string {
	c.t.Helper()
	c.Writeln("AUTH LOGIN " + encode(user))
	c.ExpectPattern(`^334 UGFzc3dvcmQ6`)
	c.Writeln(encode(pass))
	return final(c.Read())
}

// Submit hands over a message for one recipient. It returns the server's word
// on the recipient, if that is no, else the one on the message.
func (c *Client) Submit(to string) string {
	c.t.Helper()
	c.Writeln("MAIL FROM:<sender@example.org>")
	c.ExpectPattern(`^250 `)
	c.Writeln("RCPT TO:<" + to + ">")
	if line := c.Readln(); line[0] != '2' {
		return line
	}
	c.Writeln("DATA")
	c.ExpectPattern(`^354 `)
	c.Writeln("Subject: test\r\n\r\ntest\r\n.")
	return final(c.Read())
}
