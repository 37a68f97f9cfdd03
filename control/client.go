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
	"strings"
	"syscall"
	"time"
)

// ErrNotAllowed is wrapped by a Client's errors when the socket is there and
// lets this user do nothing.
var ErrNotAllowed = errors.New("not allowed: the control socket is for root and usher's own user")

// ErrNoUsher is wrapped by a Client's errors when nobody answers at the socket.
var ErrNoUsher = errors.New("no usher answers")

// callTimeout bounds a call whose reply is short.
const callTimeout = 60 * time.Second

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
		Transport: &http.Transport{DialContext: dial},
	}}
}

// Status asks for the state of usher and of its backends.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// User asks where a user is.
func (c *Client) User(ctx context.Context, user string) (s UserStatus, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/users/"+segment(user), nil, &s)
}

// Route asks where a user would go.
func (c *Client) Route(ctx context.Context, q RouteQuery) (a RouteAnswer, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/route", q, &a)
}

// Order asks to change what is ordered for a backend; see Service.
func (c *Client) Order(ctx context.Context, o BackendOrder) (a BackendAnswer, err error) {
	return a, c.call(ctx, http.MethodPatch, "/v1/backends/"+segment(o.Target), o, &a)
}

// AddBackend asks to add a backend; see Service.
func (c *Client) AddBackend(ctx context.Context, o BackendAdd) (a BackendAnswer, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/backends", o, &a)
}

// RemoveBackend asks to take one out; see Service.
func (c *Client) RemoveBackend(ctx context.Context, o BackendRemove) (a BackendAnswer, err error) {
	return a, c.call(ctx, http.MethodDelete, "/v1/backends/"+segment(o.Target), o, &a)
}

// CheckBackend asks to check a backend at once; see Service.
func (c *Client) CheckBackend(ctx context.Context, target string) (reports []CheckReport, err error) {
	return reports, c.call(ctx, http.MethodPost, "/v1/backends/"+segment(target)+"/check", nil, &reports)
}

func (c *Client) user(ctx context.Context, method, what string, o UserOrder, out any) error {
	return c.call(ctx, method, "/v1/users/"+segment(o.User)+"/"+what, o, out)
}

// Move asks to take a user to another host; this and the following are as in
// Service.
func (c *Client) Move(ctx context.Context, o UserOrder) (m Move, err error) {
	return m, c.user(ctx, http.MethodPost, "move", o, &m)
}

// Pin asks to pin a user.
func (c *Client) Pin(ctx context.Context, o UserOrder) (a UserAnswer, err error) {
	return a, c.user(ctx, http.MethodPut, "pin", o, &a)
}

// Unpin asks to take a pin away.
func (c *Client) Unpin(ctx context.Context, o UserOrder) (a UserAnswer, err error) {
	return a, c.user(ctx, http.MethodDelete, "pin", o, &a)
}

// Hold asks to let a user's logins wait.
func (c *Client) Hold(ctx context.Context, o UserOrder) (a UserAnswer, err error) {
	return a, c.user(ctx, http.MethodPut, "hold", o, &a)
}

// Release asks to end a hold.
func (c *Client) Release(ctx context.Context, o UserOrder) (a UserAnswer, err error) {
	return a, c.user(ctx, http.MethodDelete, "hold", o, &a)
}

// Kick asks to end a user's sessions.
func (c *Client) Kick(ctx context.Context, o UserOrder) (a KickAnswer, err error) {
	return a, c.user(ctx, http.MethodPost, "kick", o, &a)
}

// MoveOf asks for a move.
func (c *Client) MoveOf(ctx context.Context, id string) (m Move, err error) {
	return m, c.call(ctx, http.MethodGet, "/v1/moves/"+segment(id), nil, &m)
}

// Moves asks for the moves that are known.
func (c *Client) Moves(ctx context.Context) (m []Move, err error) {
	return m, c.call(ctx, http.MethodGet, "/v1/moves", nil, &m)
}

// Undo asks to take a move back.
func (c *Client) Undo(ctx context.Context, id string, o UserOrder) (m Move, err error) {
	return m, c.call(ctx, http.MethodPost, "/v1/moves/"+segment(id)+"/undo", o, &m)
}

// Flush asks to move all users of a host.
func (c *Client) Flush(ctx context.Context, o FlushOrder) (f Flush, err error) {
	return f, c.call(ctx, http.MethodPost, "/v1/flushes", o, &f)
}

// FlushOf asks how far a flush is.
func (c *Client) FlushOf(ctx context.Context, id string) (f Flush, err error) {
	return f, c.call(ctx, http.MethodGet, "/v1/flushes/"+segment(id), nil, &f)
}

// StopFlush asks to end a flush.
func (c *Client) StopFlush(ctx context.Context, id string, o UserOrder) (f Flush, err error) {
	return f, c.call(ctx, http.MethodDelete, "/v1/flushes/"+segment(id), o, &f)
}

// Map calls yield for the assignments of a host, until it returns false.
func (c *Client) Map(ctx context.Context, host, tag string, yield func(Assignment) bool) error {
	q := url.Values{"backend": {host}, "tag": {tag}}
	return c.stream(ctx, "/v1/map?"+q.Encode(), func(dec *json.Decoder) error {
		for {
			var line struct {
				Assignment
				Problem
			}
			if err := dec.Decode(&line); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("control: reply: %w", err)
			}
			if line.Error != "" {
				return errors.New(line.Error)
			}
			if !yield(line.Assignment) {
				return nil
			}
		}
	})
}

// Decisions asks for the last decisions with that id, or of that user.
func (c *Client) Decisions(ctx context.Context, id, user string) (d []DecisionRecord, err error) {
	q := url.Values{"id": {id}, "user": {user}}
	return d, c.call(ctx, http.MethodGet, "/v1/decisions?"+q.Encode(), nil, &d)
}

// Dump asks for commands that restore what operators ordered.
func (c *Client) Dump(ctx context.Context) (lines []string, err error) {
	return lines, c.call(ctx, http.MethodGet, "/v1/dump", nil, &lines)
}

// Nodes asks for every usher that shares the state.
func (c *Client) Nodes(ctx context.Context) (n []Node, err error) {
	return n, c.call(ctx, http.MethodGet, "/v1/nodes", nil, &n)
}

// Audit asks for the last changes.
func (c *Client) Audit(ctx context.Context, most int) (a []AuditRecord, err error) {
	return a, c.call(ctx, http.MethodGet, "/v1/audit?last="+strconv.Itoa(most), nil, &a)
}

// Reload asks to read configuration and scripts anew; see Service.
func (c *Client) Reload(ctx context.Context, force bool) error {
	return c.call(ctx, http.MethodPost, "/v1/reload?force="+strconv.FormatBool(force), nil, &struct{}{})
}

// errNoName refuses what no path can say.
var errNoName = errors.New("the name is empty")

// segment makes one segment of a path. Dots stand for other segments, unless they
// are escaped.
func segment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.do(ctx, method, path, in, func(body io.Reader) error {
		raw, err := io.ReadAll(io.LimitReader(body, 64<<20))
		if err != nil {
			return fmt.Errorf("control: reply: %w", err)
		}
		if err := json.Unmarshal(raw, out); err != nil {
			return fmt.Errorf("control: reply: %w", err)
		}
		return nil
	})
}

// stream reads a reply of any length.
func (c *Client) stream(ctx context.Context, path string, read func(*json.Decoder) error) error {
	return c.do(ctx, http.MethodGet, path, nil, func(body io.Reader) error { return read(json.NewDecoder(body)) })
}

func (c *Client) do(ctx context.Context, method, path string, in any, read func(body io.Reader) error) error {
	if segments, _, _ := strings.Cut(path, "?"); strings.Contains(segments+"/", "//") {
		return errNoName
	}
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
	if resp.StatusCode == http.StatusOK {
		return read(resp.Body)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("control: reply: %w", err)
	}
	var p Problem
	if json.Unmarshal(raw, &p) != nil || p.Error == "" {
		return fmt.Errorf("control: %s", resp.Status)
	}
	return errors.New(p.Error)
}
