package servers

import "strings"

// sieveReply reads up to the line that ends a reply (RFC 5804, section 1.2) and
// returns all of it.
func (c *Client) sieveReply() []string {
	c.t.Helper()
	for lines := []string(nil); ; {
		line, err := c.Read()
		lines = append(lines, final(line, err))
		word, _, _ := strings.Cut(lines[len(lines)-1], " ")
		switch word {
		case "OK", "NO", "BYE", Closed:
			return lines
		}
	}
}

// sieveCapabilities reads capabilities and the OK after them: the greeting, and
// the answer to CAPABILITY.
func (c *Client) sieveCapabilities() []string {
	c.t.Helper()
	lines := c.sieveReply()
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "OK") {
		c.t.Fatalf("sieve: capabilities end with %q", last)
	}
	return lines
}

func (c *Client) sievePlain(resp string, initial bool) string {
	c.t.Helper()
	if initial {
		c.Writeln(`AUTHENTICATE "PLAIN" "` + resp + `"`)
	} else {
		c.Writeln(`AUTHENTICATE "PLAIN"`)
		c.ExpectPattern(`^""$`)
		c.Writeln(`"` + resp + `"`)
	}
	lines := c.sieveReply()
	return lines[len(lines)-1]
}

func (c *Client) sieveBackend() string {
	c.t.Helper()
	c.Writeln("CAPABILITY")
	for _, line := range c.sieveCapabilities() {
		if m := markLine.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	c.t.Fatal("sieve: the capabilities do not name the backend")
	return ""
}
