package monitor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"usher/proxy"
)

var errColon = errors.New("test_username has a colon, which Basic authentication cannot say")

// checkHTTP makes a GET request where the check is deep or has a path, with Basic
// authentication (RFC 7617) where there is somebody to log in as. The status
// must be the expected one; redirects are not followed, bodies not read.
func checkHTTP(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	if !s.DeepCheck && s.RequestURI == "" {
		return checkConnect(ctx, p, s, addr)
	}
	head, err := requestFor(s)
	if err != nil {
		return err
	}
	c, err := openSession(ctx, p, s, addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.confide("request", head, head); err != nil {
		return err
	}
	for {
		code, status, err := c.httpStatus()
		if err != nil {
			return err
		}
		if code/100 == 1 && code != http.StatusSwitchingProtocols { // RFC 9110, section 15.2
			continue
		}
		if !isExpected(code, s.ExpectStatus) {
			return c.said("status", status+", expected "+expected(s.ExpectStatus))
		}
		return nil
	}
}

// requestFor returns the request without the line end that send adds.
func requestFor(s *proxy.Server) (string, error) {
	uri := s.RequestURI
	if uri == "" {
		uri = "/"
	}
	target, err := url.ParseRequestURI(uri)
	if err != nil {
		return "", fmt.Errorf("request_uri: %w", err)
	}
	req := http.Request{
		Method: http.MethodGet, URL: target, Host: hostHeader(s), Close: true,
		Header: http.Header{"User-Agent": {"usher"}},
	}
	if s.DeepCheck && s.TestUsername != "" {
		if strings.Contains(s.TestUsername, ":") {
			return "", errColon
		}
		req.SetBasicAuth(s.TestUsername, s.TestPassword.Reveal())
	}
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\r\n"), nil
}

// hostHeader returns the configured host, and the port unless it is the
// scheme's own.
func hostHeader(s *proxy.Server) string {
	host, usual := strings.TrimSuffix(s.Host, "."), 80
	if s.TLS {
		usual = 443
	}
	if s.Port != usual {
		return proxy.HostPort(host, s.Port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// httpStatus reads a response's head and returns its status, a number and that
// with the reason. It is parsed as the head of an answer to HEAD: nobody reads
// the body.
func (c *session) httpStatus() (code int, status string, err error) {
	first, err := c.line("response")
	if err != nil {
		return 0, "", err
	}
	var head strings.Builder
	for line := first; line != ""; {
		head.WriteString(line + "\r\n")
		if line, err = c.line("response"); err != nil {
			return 0, "", err
		}
	}
	head.WriteString("\r\n")
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head.String())), &http.Request{Method: http.MethodHead})
	if err != nil { // whose text has parts of what was said, which hide does not know
		return 0, "", c.said("response", "its head is not one of HTTP: "+first)
	}
	return r.StatusCode, r.Status, r.Body.Close()
}

// expected is what the status must be; 2xx if nothing is said.
func expected(status string) string {
	if status == "" {
		return "2xx"
	}
	return status
}

// isExpected reports whether a status is of the class, 2xx, or the number that is
// expected.
func isExpected(code int, status string) bool {
	if class, ok := strings.CutSuffix(expected(status), "xx"); ok {
		return class == strconv.Itoa(code/100)
	}
	return status == strconv.Itoa(code)
}
