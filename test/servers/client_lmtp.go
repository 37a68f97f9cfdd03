package servers

import "strings"

// Deliver sends one message over LMTP (RFC 2033) and returns the server's word
// on each recipient, in their order: the refusal of RCPT, else the reply that
// follows the message.
func (c *Client) Deliver(subject string, rcpts ...string) []string {
	c.t.Helper()
	c.Writeln("MAIL FROM:<sender@example.org>")
	c.ExpectPattern(`^250 `)
	replies := make([]string, len(rcpts))
	taken := 0
	for i, rcpt := range rcpts {
		c.Writeln("RCPT TO:<" + rcpt + ">")
		if replies[i] = c.Readln(); strings.HasPrefix(replies[i], "250 ") {
			replies[i] = ""
			taken++
		}
	}
	if taken == 0 {
		c.Writeln("RSET")
		c.ExpectPattern(`^250 `)
		return replies
	}
	c.Writeln("DATA")
	c.ExpectPattern(`^354 `)
	c.Writeln("From: sender <sender@example.org>\r\nSubject: " + subject + "\r\n\r\nA test.\r\n.")
	for i := range replies {
		if replies[i] == "" {
			replies[i] = c.Readln()
		}
	}
	return replies
}
