package policytest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"

	"usher/internal/nearest"
)

// An answer is what an HTTP service says: its status, or that it is down or slow.
type answer struct {
	state  string // down, slow, or ""
	status int
	body   string
	header http.Header
}

func readHTTP(v lua.LValue) (any, error) {
	a := &answer{status: http.StatusOK, header: http.Header{}}
	t, ok := v.(*lua.LTable)
	if !ok {
		word, err := oneOf("down", "slow")(nil, v)
		if err != nil {
			return nil, fmt.Errorf("%w, or a table like {status = 200, body = \"…\"}", err)
		}
		a.state = word.(string)
		return a, nil
	}
	for _, f := range fields(t) {
		var err error
		switch f.name {
		case "status":
			a.status, err = readNumber(f.value, 100, 599)
		case "body":
			a.body, err = readText(f.value)
		case "headers":
			headers, ok := f.value.(*lua.LTable)
			if !ok {
				return nil, fmt.Errorf("headers: expected a table")
			}
			for _, h := range fields(headers) {
				values, err := readTexts(h.value)
				if err != nil {
					return nil, fmt.Errorf("headers[%q]: %w", h.name, err)
				}
				for _, text := range values {
					a.header.Add(h.name, text)
				}
			}
		default:
			err = unknown("an HTTP answer has no", f.name, []string{"status", "body", "headers"})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return a, nil
}

// A notGiven collects what a policy asked for that the test does not give.
type notGiven struct {
	mu    sync.Mutex
	names []string
}

func (n *notGiven) add(what, name string, given map[string]any) error {
	text := fmt.Sprintf("%s %q is not given", what, name)
	if len(given) > 0 {
		text += fmt.Sprintf("; did you mean %q?", nearest.Of(name, keys(given)))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.names, text) {
		n.names = append(n.names, text)
	}
	return fmt.Errorf("%s", text)
}

func (n *notGiven) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := n.names
	n.names = nil
	return names
}

// A web answers HTTP requests with what is given, by "METHOD URL".
type web struct {
	given   map[string]any
	missing *notGiven
}

// RoundTrip implements http.RoundTripper.
func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	name := r.Method + " " + r.URL.String()
	a, ok := w.given[name].(*answer)
	if !ok {
		return nil, w.missing.add("http", name, w.given)
	}
	switch a.state {
	case "down":
		return nil, fmt.Errorf("connection refused")
	case "slow":
		return nil, context.DeadlineExceeded
	}
	return &http.Response{
		StatusCode: a.status, Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// dnsDown stands for a DNS that does not answer.
type dnsDown struct{}

func readDNS(v lua.LValue) (any, error) {
	if v == lua.LString("down") {
		return dnsDown{}, nil
	}
	return readTexts(v)
}

// A dns answers look-ups with what is given, by "NAME TYPE". A name that is given
// with another type has none of this.
type dns struct {
	given   map[string]any
	missing *notGiven
}

func (d *dns) find(name, kind string) ([]string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	known := false
	for key, v := range d.given {
		host, k, _ := strings.Cut(key, " ")
		if strings.ToLower(strings.TrimSuffix(host, ".")) != name {
			continue
		}
		known = true
		if strings.EqualFold(k, kind) {
			if list, ok := v.([]string); ok && len(list) > 0 {
				return list, nil
			} else if !ok {
				return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
			}
		}
	}
	if !known {
		return nil, d.missing.add("dns", name+" "+kind, d.given)
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// LookupNetIP implements modules.Resolver.
func (d *dns) LookupNetIP(_ context.Context, network, host string) (list []netip.Addr, err error) {
	for _, kind := range map[string][]string{"ip4": {"A"}, "ip6": {"AAAA"}, "ip": {"A", "AAAA"}}[network] {
		var texts []string
		if texts, err = d.find(host, kind); err != nil {
			continue
		}
		for _, text := range texts {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("given.dns[%q]: %w", host+" "+kind, err)
			}
			list = append(list, a)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	return nil, err
}

// LookupMX implements modules.Resolver. Records read "10 mail.example.org.".
func (d *dns) LookupMX(_ context.Context, name string) (list []*net.MX, err error) {
	texts, err := d.find(name, "MX")
	for _, text := range texts {
		pref, host, _ := strings.Cut(text, " ")
		n, err := strconv.ParseUint(pref, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("given.dns[%q]: %q: expected a number and a host", name+" MX", text)
		}
		list = append(list, &net.MX{Host: host, Pref: uint16(n)})
	}
	return list, err
}

// LookupNS implements modules.Resolver.
func (d *dns) LookupNS(_ context.Context, name string) (list []*net.NS, err error) {
	texts, err := d.find(name, "NS")
	for _, text := range texts {
		list = append(list, &net.NS{Host: text})
	}
	return list, err
}

// LookupTXT implements modules.Resolver.
func (d *dns) LookupTXT(_ context.Context, name string) ([]string, error) { return d.find(name, "TXT") }

// LookupAddr implements modules.Resolver. The name is the address.
func (d *dns) LookupAddr(_ context.Context, addr string) ([]string, error) {
	return d.find(addr, "PTR")
}

// LookupCNAME implements modules.Resolver.
func (d *dns) LookupCNAME(_ context.Context, host string) (string, error) {
	texts, err := d.find(host, "CNAME")
	if err != nil {
		return "", err
	}
	return texts[0], nil
}
