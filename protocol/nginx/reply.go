package nginx

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/proxy"
)

const (
	// maxCredential keeps a reply within the about 1 KiB that nginx reads: it
	// bounds an Auth-Pass; user names are bounded by proxy.MaxUserLen.
	maxCredential = 512
	// maxText bounds an error text.
	maxText = 200
	// patience is how many attempts on one connection are told to wait:
	// nginx frees an attempt's memory only when the session ends.
	patience = 10
)

// texts are what a mail client is told, per protocol. nginx adds IMAP's tag and
// NO, POP3's -ERR and, without Auth-Error-Code, SMTP's 535 5.7.0.
var texts = map[string]struct{ prefix, failed, temp, tempCode, failCode string }{
	"imap": {"[AUTHENTICATIONFAILED] ", "Authentication failed.", "[UNAVAILABLE] Temporary server problem, try again later", "", ""},
	"pop3": {"[AUTH] ", "Authentication failed.", "[SYS/TEMP] Temporary server problem, try again later", "", ""},
	"smtp": {"", "Authentication failed.", "Temporary server problem, try again later", "454 4.7.0", "535 5.7.8"},
}

// writeRouted writes the answer that takes a client to its backend.
func writeRouted(h http.Header, r *proxy.Request, d *proxy.Decision) error {
	if !d.Addr.IsValid() || d.Port < 1 || d.Port > math.MaxUint16 {
		return fmt.Errorf("nginx: no address and port for %.80q", d.Host)
	}
	// The name of an external login may be the certificate's alone.
	if d.User != r.User || r.Method == "external" {
		if err := fitsHeader(d.User); err != nil {
			return fmt.Errorf("nginx: the backend's user name: %w", err)
		}
		h.Set("Auth-User", d.User)
	}
	pass, said := d.Password.Reveal(), r.Password.Reveal()
	switch r.Method {
	case "apop", "cram-md5", "external":
		// nginx would log in with the client's proof, or with nothing.
		if r.Service != "smtp" && (pass == "" || pass == said) {
			return fmt.Errorf("nginx: %s without a password for the backend", r.Method)
		}
	}
	if pass != said {
		if err := fitsHeader(pass); err != nil {
			return fmt.Errorf("nginx: the backend's password: %w", err)
		}
		h.Set("Auth-Pass", pass)
	}
	h.Set("Auth-Status", "OK")
	h.Set("Auth-Server", d.Addr.Unmap().String())
	h.Set("Auth-Port", strconv.Itoa(d.Port))
	return nil
}

// fitsHeader: nginx takes the value literally, and HTTP drops spaces around it.
func fitsHeader(s string) error {
	if len(s) > maxCredential {
		return fmt.Errorf("over %d bytes", maxCredential)
	}
	if strings.Trim(s, " ") != s || strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		return errors.New("a byte that no header can carry")
	}
	return nil
}

// writeDenied writes a refusal, with the wait that nginx shall make first.
func writeDenied(h http.Header, r *proxy.Request, d *proxy.Decision, wait time.Duration) {
	t := texts[protocolOf(r)]
	text := oneLine(d.Text)
	if text == "" {
		text = t.failed
	}
	if t.prefix == "" && (text == "OK" || text == "WAIT") {
		text += "." // alone they are orders to nginx
	}
	h.Set("Auth-Status", t.prefix+text)
	if t.failCode != "" {
		h.Set("Auth-Error-Code", t.failCode)
	}
	if wait > 0 {
		h.Set("Auth-Wait", seconds(wait))
	}
}

// writeTempFail writes "try again later".
func writeTempFail(h http.Header, r *proxy.Request) {
	t := texts[protocolOf(r)]
	h.Set("Auth-Status", t.temp)
	if t.tempCode != "" {
		h.Set("Auth-Error-Code", t.tempCode)
	}
}

// writeWait lets nginx ask again. Without a wait of a second or more it would
// ask at once, for ever.
func writeWait(h http.Header, wait time.Duration) {
	h.Set("Auth-Status", "WAIT")
	h.Set("Auth-Wait", seconds(wait))
}

func seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

func protocolOf(r *proxy.Request) string {
	if _, ok := texts[r.Service]; ok {
		return r.Service
	}
	return "imap"
}

// oneLine makes a text fit for a header and a mail client.
func oneLine(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// roomForHeaders is what nginx reads of an answer, 1 KiB, less what net/http adds:
// the status line, Date, Content-Length and Connection, 110 bytes.
const roomForHeaders = 1024 - 128

// changeHeaders does what the policy wants of the answer's headers, those of
// usher left alone, as far as there is room. It returns how many changes had none.
func changeHeaders(h http.Header, changes []proxy.HeaderChange) (dropped int) {
	used := func() (n int) {
		for name, values := range h {
			for _, v := range values {
				n += len(name) + len(": \r\n") + len(v)
			}
		}
		return n
	}
	for _, c := range changes {
		if c.Valid() != nil {
			continue // refused where it was made
		}
		name := http.CanonicalHeaderKey(c.Name)
		old := h[name]
		switch c.Op {
		case proxy.HeaderSet:
			h[name] = []string{c.Value}
		case proxy.HeaderAdd:
			h[name] = append(slices.Clone(old), c.Value)
		case proxy.HeaderRemove:
			delete(h, name)
			continue
		}
		if used() > roomForHeaders {
			h[name] = old
			dropped++
		}
	}
	return dropped
}
