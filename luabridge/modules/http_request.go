package modules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// What a script may send.
const (
	maxURL        = 8 << 10 // bytes, with the query
	maxMethod     = 32
	maxFields     = 64 // header fields, cookies too
	maxFieldBytes = 16 << 10
	maxSent       = 1 << 20 // bytes of a body
)

// An httpRequest is what a script asks glua_http for.
type httpRequest struct {
	L       *lua.LState
	req     *http.Request
	timeout time.Duration
	fields  int // of the header
	bytes   int // in them
}

// readRequest reads method, url and options. What a script's author got wrong
// raises an error. What may come of a client's words, a URL or the text of a
// header field, is returned as one, so that the policy can go on without.
func readRequest(L *lua.LState, method, target string, options lua.LValue, at int) (*httpRequest, error) {
	u, err := readURL(target)
	if err != nil {
		return nil, err
	}
	if len(method) > maxMethod || !isToken(method) || method == http.MethodConnect {
		return nil, errors.New("no method of HTTP that could be used here")
	}
	r := &httpRequest{L: L, timeout: httpTimeout, req: &http.Request{
		Method: method, URL: u, Host: u.Host, Header: http.Header{"User-Agent": {"usher"}},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}}
	switch t := options.(type) {
	case *lua.LNilType:
	case *lua.LTable:
		if err := r.readOptions(t); err != nil {
			return nil, err
		}
	default:
		argError(L, at, httpName, "table of options")
	}
	r.req.URL.RawQuery = escapeQuery(r.req.URL.RawQuery)
	return r, nil
}

// readURL reads the URL of a request. Its errors show nothing of it: there may
// be a password in it.
func readURL(s string) (*url.URL, error) {
	if len(s) > maxURL {
		return nil, fmt.Errorf("a URL of %d bytes, at most %d", len(s), maxURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("no valid URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("unsupported protocol scheme; expected http:// or https://")
	}
	if u.Opaque != "" || !proxy.ValidHost(u.Hostname()) {
		return nil, errors.New("the URL has no valid host")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// escapeQuery escapes what may not stand in a query: spaces and controls would
// end the request's first line.
func escapeQuery(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && !strings.ContainsRune(`"#<>`, rune(c)) }
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*n)
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// readOptions reads the options in an order of its own: what headers says comes
// last, and replaces what other options made. What is none of them is ignored.
func (r *httpRequest) readOptions(t *lua.LTable) error {
	if query, ok := r.text(t, "query"); ok {
		if len(query) > maxURL {
			return fmt.Errorf("a query of %d bytes, at most %d", len(query), maxURL)
		}
		r.req.URL.RawQuery = query
	}
	if err := r.readBody(t); err != nil {
		return err
	}
	r.readTimeout(t)
	if auth := r.table(t, "auth"); auth != nil {
		user, _ := r.text(auth, "user")
		pass, _ := r.text(auth, "pass")
		if err := r.count(user, pass); err != nil {
			return err
		}
		r.req.SetBasicAuth(user, pass)
	}
	err := r.eachText(t, "cookies", func(name, value string) error {
		cookie := &http.Cookie{Name: name, Value: value}
		if cookie.Valid() != nil {
			return errors.New("a cookie has a name or value that may not be sent")
		}
		r.req.AddCookie(cookie)
		return nil
	})
	if err != nil {
		return err
	}
	return r.eachText(t, "headers", r.setHeader)
}

// readBody reads body, or form, which is one of a form's type.
func (r *httpRequest) readBody(t *lua.LTable) error {
	body, ok := r.text(t, "body")
	if !ok {
		if body, ok = r.text(t, "form"); !ok {
			return nil
		}
		r.req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if len(body) > maxSent {
		return fmt.Errorf("a body of %d bytes, at most %d", len(body), maxSent)
	}
	sized, err := http.NewRequest(http.MethodPost, "http://h", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.req.Body, r.req.GetBody, r.req.ContentLength = sized.Body, sized.GetBody, sized.ContentLength
	return nil
}

// readTimeout reads timeout: seconds, or a text like "10s" or "500ms".
func (r *httpRequest) readTimeout(t *lua.LTable) {
	switch v := t.RawGetString("timeout").(type) {
	case *lua.LNilType:
		return
	case lua.LNumber:
		if f := float64(v); !math.IsNaN(f) && f > 0 {
			r.timeout = time.Duration(min(f*float64(time.Second), float64(httpTimeout)))
			return
		}
	case lua.LString:
		if d, err := time.ParseDuration(clip(string(v), 64)); err == nil && d > 0 {
			r.timeout = min(d, httpTimeout)
			return
		}
	}
	r.L.RaiseError("%s: timeout is %s; expected seconds above 0, or a text like \"10s\"",
		httpName, CallOf(r.L).Shown(t.RawGetString("timeout").String(), 64))
}

// setHeader sets a header field. What belongs to the connection is ours to say.
func (r *httpRequest) setHeader(name, value string) error {
	if !isToken(name) || !isFieldValue(value) {
		return errors.New("a header field has a name or value that may not be sent")
	}
	switch name = http.CanonicalHeaderKey(name); name {
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
	case "Host":
		host, err := readURL("http://" + value)
		if err != nil || host.Host != value {
			return errors.New("the header field Host is no host name and no address")
		}
		r.req.Host = value
	default:
		r.req.Header.Set(name, value)
	}
	return nil
}

// count takes what one more header field needs.
func (r *httpRequest) count(name, value string) error {
	r.fields++
	r.bytes += len(name) + len(value)
	if r.fields > maxFields || r.bytes > maxFieldBytes {
		return fmt.Errorf("a header of over %d fields or %d bytes", maxFields, maxFieldBytes)
	}
	take(r.L, 20+(len(name)+len(value))/16, 256+4*(len(name)+len(value)))
	return nil
}

// text reads an option that is a text.
func (r *httpRequest) text(t *lua.LTable, name string) (string, bool) {
	switch v := t.RawGetString(name).(type) {
	case *lua.LNilType:
		return "", false
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return number(v), true
	default:
		r.L.RaiseError("%s: %s is a %s; expected a string", httpName, name, v.Type())
	}
	return "", false
}

// table reads an option that is a table.
func (r *httpRequest) table(t *lua.LTable, name string) *lua.LTable {
	switch v := t.RawGetString(name).(type) {
	case *lua.LNilType:
		return nil
	case *lua.LTable:
		return v
	default:
		r.L.RaiseError("%s: %s is a %s; expected a table", httpName, name, v.Type())
	}
	return nil
}

// eachText visits names and values of an option that is a table of texts, in the
// order in which the script put them in.
func (r *httpRequest) eachText(t *lua.LTable, option string, visit func(name, value string) error) (err error) {
	fields := r.table(t, option)
	if fields == nil {
		return nil
	}
	each(r.L, fields, func(k, v lua.LValue) {
		if err != nil {
			return
		}
		name, ok := k.(lua.LString)
		var value string
		switch v := v.(type) {
		case lua.LString:
			value = string(v)
		case lua.LNumber:
			value = number(v)
		default:
			ok = false
		}
		if !ok {
			r.L.RaiseError("%s: %s has a %s under a %s; expected strings under strings", httpName, option, v.Type(), k.Type())
		}
		if err = r.count(string(name), value); err == nil {
			err = visit(string(name), value)
		}
	})
	return err
}

// isToken reports whether s is a method or the name of a header field (RFC 9110,
// section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s has no controls but tabs.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// with gives the request its deadline, which making a connection has too.
func (r *httpRequest) with(ctx context.Context) *http.Request {
	if end, ok := ctx.Deadline(); ok {
		ctx = context.WithValue(ctx, dialEnd{}, end)
	}
	return r.req.WithContext(ctx)
}

// String is method and URL as errors and usher route have them: no query, no
// user, no password.
func (r *httpRequest) String() string {
	return r.req.Method + " " + clip(r.req.URL.Scheme+"://"+r.req.URL.Host+cmp.Or(r.req.URL.EscapedPath(), "/"), 200)
}
