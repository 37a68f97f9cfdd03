package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ErrNotAllowed is wrapped by a Client's errors when the socket is there and
// lets this user do nothing.
var ErrNotAllowed = errors.New("not allowed: the control socket is for root and usher's own user")

// ErrNoUsher is wrapped by a Client's errors when nobody answers at the socket.
var ErrNoUsher = errors.New("no usher answers")

// A Client calls the admin API of a running usher.
type Client struct {
	addr string
	http http.Client
}

// NewClient calls the API at a unix socket's path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{addr: "unix:" + path, http: http.Client{
		Transport: &http.Transport{DialContext: dial}, Timeout: 60 * time.Second,
	}}
}

// Status asks for the state of usher and of its backends.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// User asks where a user is.
func (c *Client) User(ctx context.Context, user string) (s UserStatus, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(user), nil, &s)
}

// Route asks where a user would go.
func (c *Client) Route(ctx context.Context, q RouteQuery) (a RouteAnswer, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/route", q, &a)
}

// Order asks to change what is ordered for a backend; see Service.
func (c *Client) Order(ctx context.Context, o BackendOrder) (a BackendAnswer, err error) {
	return a, c.call(ctx, http.MethodPatch, "/v1/backends/"+url.PathEscape(o.Target), o, &a)
}

// CheckBackend asks to check a backend at once; see Service.
func (c *Client) CheckBackend(ctx context.Context, target string) (reports []CheckReport, err error) {
	return reports, c.call(ctx, http.MethodPost, "/v1/backends/"+url.PathEscape(target)+"/check", nil, &reports)
}

// Reload asks to read configuration and scripts anew; see Service.
func (c *Client) Reload(ctx context.Context, force bool) error {
	return c.call(ctx, http.MethodPost, "/v1/reload?force="+strconv.FormatBool(force), nil, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("control: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://usher"+path, &body)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		cause := err
		if u := (*url.Error)(nil); errors.As(err, &u) {
			cause = u.Err
		}
		// A peer that the socket does not admit is hung up on.
		if errors.Is(cause, fs.ErrPermission) || errors.Is(cause, syscall.ECONNRESET) || errors.Is(cause, io.EOF) {
			return fmt.Errorf("%w (%s: %w)", ErrNotAllowed, c.addr, cause)
		}
		return fmt.Errorf("%w at %s: %w", ErrNoUsher, c.addr, cause)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("control: reply: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var p Problem
		if json.Unmarshal(raw, &p) != nil || p.Error == "" {
			return fmt.Errorf("control: %s", resp.Status)
		}
		return errors.New(p.Error)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("control: reply: %w", err)
	}
	return nil
}
