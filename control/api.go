package control

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
)

const (
	maxBody      = 64 << 10
	readTimeout  = 10 * time.Second
	writeTimeout = 60 * time.Second
)

// ErrNotFound is wrapped by a Service's errors about what is not there.
var ErrNotFound = errors.New("not found")

// A Service is what the API shows and does. cmd implements it.
type Service interface {
	Status() Status
	// User tells where a user's live assignment points to.
	User(ctx context.Context, user string) (UserStatus, error)
	// Route decides for a user as a login would, and leaves nothing behind.
	Route(ctx context.Context, q RouteQuery) (RouteAnswer, error)
	// Reload reads configuration and scripts anew. An error tells every fault,
	// a line each; then nothing has changed. With force a policy is taken although
	// it raises an error for the probe request.
	Reload(force bool) error
	// Order changes what operators ordered for a host or an entry, for good. An
	// error means that nothing has changed.
	Order(ctx context.Context, o BackendOrder) (BackendAnswer, error)
	// CheckBackend checks the entries of a host, or one, at once.
	CheckBackend(ctx context.Context, target string) ([]CheckReport, error)
	// Move takes a user to another host; Pin lets him go there whatever the policy
	// selects, moving him if he lives elsewhere; Unpin, Hold, Release and Kick are
	// what they say. An error means that nothing has changed.
	Move(ctx context.Context, o UserOrder) (Move, error)
	Pin(ctx context.Context, o UserOrder) (UserAnswer, error)
	Unpin(ctx context.Context, o UserOrder) (UserAnswer, error)
	Hold(ctx context.Context, o UserOrder) (UserAnswer, error)
	Release(ctx context.Context, o UserOrder) (UserAnswer, error)
	Kick(ctx context.Context, o UserOrder) (KickAnswer, error)
	// MoveOf returns a move by its id, Moves those that are known, the newest first;
	// Undo takes one back.
	MoveOf(id string) (Move, error)
	Moves() []Move
	Undo(ctx context.Context, id string, o UserOrder) (Move, error)
	// Flush moves all users of a host; FlushOf tells how far it is, and StopFlush
	// ends it.
	Flush(ctx context.Context, o FlushOrder) (Flush, error)
	FlushOf(id string) (Flush, error)
	StopFlush(ctx context.Context, id string, o UserOrder) (Flush, error)
	// Map calls yield for the assignments of a host, "" for all, with that tag, ""
	// for any, until it returns false.
	Map(ctx context.Context, host, tag string, yield func(Assignment) bool) error
	// Decisions returns the last decisions with that id, or of that user.
	Decisions(id, user string) []DecisionRecord
	// Dump returns commands that restore what operators ordered.
	Dump(ctx context.Context) ([]string, error)
	// Nodes returns every usher that shares the state.
	Nodes(ctx context.Context) ([]Node, error)
	// Audit returns the last changes, the newest last, at most most of them.
	Audit(most int) ([]AuditRecord, error)
	// Ready reports whether logins can be answered.
	Ready() bool
}

// Status is the state of usher and of its backends.
type Status struct {
	Version     string    `json:"version"`
	Node        string    `json:"node"`
	Started     time.Time `json:"started"`
	Config      string    `json:"config"`
	LoadedAt    time.Time `json:"loaded_at"`
	Ready       bool      `json:"ready"`
	Policy      []string  `json:"policy"`
	Assignments int       `json:"assignments"`
	Store       string    `json:"store"` // memory, here or away: a shared one
	Listeners   []string  `json:"listeners"`
	Panics      []Panic   `json:"panics,omitempty"`
	Backends    []Backend `json:"backends"`
}

// Panic is a protocol whose backends fell by timeouts or errors of the local
// network, more of them at once than panic_threshold: the last good set is kept.
type Panic struct {
	Protocol string    `json:"protocol"`
	Since    time.Time `json:"since"`
	Failing  int       `json:"failing"`
	Of       int       `json:"of"` // that were up
}

// RouteQuery asks where a user would go.
type RouteQuery struct {
	User     string `json:"user"`
	Protocol string `json:"protocol"`
	ClientIP string `json:"client_ip,omitempty"`
	Network  bool   `json:"network,omitempty"` // policies may reach the network
	Adapter  string `json:"adapter,omitempty"` // dovecot or nginx: who would ask; empty: whom the configuration has
}

// RouteAnswer is the decision that would come out.
type RouteAnswer struct {
	User    string   `json:"user"`
	Outcome string   `json:"outcome"`
	Backend string   `json:"backend,omitempty"`
	Address string   `json:"address,omitempty"`
	By      string   `json:"by"`
	Reason  string   `json:"reason"`
	Text    string   `json:"text,omitempty"`
	Error   string   `json:"error,omitempty"`
	TookUS  int64    `json:"took_us"`
	Steps   []string `json:"steps"` // what mattered, in order
}

// Problem is the body of every answer that is not 200.
type Problem struct {
	Error string `json:"error"`
}

// API serves the admin API of s. Whoever reaches it may do all of it: its
// socket must let nobody else in.
func API(s Service, log *zap.Logger) http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := f(r)
			writeJSON(w, log, v, err)
		})
	}
	answer("GET /v1/status", func(*http.Request) (any, error) { return s.Status(), nil })
	answer("GET /v1/users/{user}", func(r *http.Request) (any, error) { return s.User(r.Context(), r.PathValue("user")) })
	answer("POST /v1/reload", func(r *http.Request) (any, error) {
		force, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("force"), "false"))
		if err != nil {
			return nil, fmt.Errorf("force: %q; expected true or false", r.URL.Query().Get("force"))
		}
		return struct{}{}, s.Reload(force)
	})
	answer("PATCH /v1/backends/{target}", func(r *http.Request) (any, error) {
		o := BackendOrder{}
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		o.Target, o.By = r.PathValue("target"), cmp.Or(o.By, peerName(r))
		return s.Order(r.Context(), o)
	})
	user := func(pattern string, f func(context.Context, UserOrder) (any, error)) {
		answer(pattern, func(r *http.Request) (any, error) {
			o, err := userOrder(r)
			if err != nil {
				return nil, err
			}
			return f(r.Context(), o)
		})
	}
	user("POST /v1/users/{user}/move", func(ctx context.Context, o UserOrder) (any, error) { return s.Move(ctx, o) })
	user("PUT /v1/users/{user}/pin", func(ctx context.Context, o UserOrder) (any, error) { return s.Pin(ctx, o) })
	user("DELETE /v1/users/{user}/pin", func(ctx context.Context, o UserOrder) (any, error) { return s.Unpin(ctx, o) })
	user("PUT /v1/users/{user}/hold", func(ctx context.Context, o UserOrder) (any, error) { return s.Hold(ctx, o) })
	user("DELETE /v1/users/{user}/hold", func(ctx context.Context, o UserOrder) (any, error) { return s.Release(ctx, o) })
	user("POST /v1/users/{user}/kick", func(ctx context.Context, o UserOrder) (any, error) { return s.Kick(ctx, o) })
	answer("GET /v1/moves", func(*http.Request) (any, error) { return s.Moves(), nil })
	answer("GET /v1/moves/{id}", func(r *http.Request) (any, error) { return s.MoveOf(r.PathValue("id")) })
	answer("POST /v1/moves/{id}/undo", func(r *http.Request) (any, error) {
		o, err := userOrder(r)
		if err != nil {
			return nil, err
		}
		return s.Undo(r.Context(), r.PathValue("id"), o)
	})
	answer("POST /v1/flushes", func(r *http.Request) (any, error) {
		var o FlushOrder
		if err := readJSON(r, &o); err != nil {
			return nil, err
		}
		o.By = cmp.Or(o.By, peerName(r))
		return s.Flush(r.Context(), o)
	})
	answer("GET /v1/flushes/{id}", func(r *http.Request) (any, error) { return s.FlushOf(r.PathValue("id")) })
	answer("DELETE /v1/flushes/{id}", func(r *http.Request) (any, error) {
		o, err := userOrder(r)
		if err != nil {
			return nil, err
		}
		return s.StopFlush(r.Context(), r.PathValue("id"), o)
	})
	mux.HandleFunc("GET /v1/map", func(w http.ResponseWriter, r *http.Request) { writeMap(w, r, s, log) })
	answer("GET /v1/decisions", func(r *http.Request) (any, error) {
		q := r.URL.Query()
		found := s.Decisions(q.Get("id"), q.Get("user"))
		if len(found) == 0 {
			return nil, fmt.Errorf("decision: %w among those that are kept (control.decisions)", ErrNotFound)
		}
		return found, nil
	})
	answer("GET /v1/dump", func(r *http.Request) (any, error) { return s.Dump(r.Context()) })
	answer("GET /v1/nodes", func(r *http.Request) (any, error) { return s.Nodes(r.Context()) })
	answer("GET /v1/audit", func(r *http.Request) (any, error) {
		most, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("last"), "100"))
		if err != nil || most < 1 {
			return nil, fmt.Errorf("last: %q; expected a number", r.URL.Query().Get("last"))
		}
		return s.Audit(most)
	})
	answer("POST /v1/backends/{target}/check", func(r *http.Request) (any, error) {
		return s.CheckBackend(r.Context(), r.PathValue("target"))
	})
	answer("POST /v1/route", func(r *http.Request) (any, error) {
		var q RouteQuery
		if err := readJSON(r, &q); err != nil {
			return nil, err
		}
		return s.Route(r.Context(), q)
	})
	return mux
}

// userOrder reads the order for a user, whose body may be missing.
func userOrder(r *http.Request) (UserOrder, error) {
	var o UserOrder
	if err := readJSON(r, &o); err != nil && !errors.Is(err, io.EOF) {
		return o, err
	}
	o.User, o.By = r.PathValue("user"), cmp.Or(o.By, peerName(r))
	return o, nil
}

// writeMap writes the assignments, a JSON object a line, for there can be millions.
// An error in the middle is an object with that name, at the end.
func writeMap(w http.ResponseWriter, r *http.Request, s Service, log *zap.Logger) {
	rc := http.NewResponseController(w)
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	w.Header().Set("Content-Type", "application/x-ndjson")
	q := r.URL.Query()
	n := 0
	err := s.Map(r.Context(), q.Get("backend"), q.Get("tag"), func(a Assignment) bool {
		if n++; n%1000 == 0 { // who reads on may take his time
			_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		return enc.Encode(a) == nil
	})
	if err != nil {
		err = enc.Encode(Problem{err.Error()})
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		log.Debug("control: reply", zap.Error(err))
	}
}

func readJSON(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, log *zap.Logger, v any, err error) {
	status := http.StatusOK
	switch {
	case errors.Is(err, ErrNotFound):
		status, v = http.StatusNotFound, Problem{err.Error()}
	case err != nil:
		status, v = http.StatusUnprocessableEntity, Problem{err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Debug("control: reply", zap.Error(err))
	}
}

// HTTP serves /metrics, /healthz and /readyz: nothing that could change
// anything or name a user.
func HTTP(s Service, m *Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.Ready() {
			http.Error(w, "backends are being checked", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// Serve serves h on ln until ctx ends. It closes ln.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: writeTimeout, MaxHeaderBytes: maxBody, ConnContext: withPeer,
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			done <- srv.Close()
			return
		}
		done <- nil
	})
	err := srv.Serve(ln)
	if !stop() {
		return <-done
	}
	return fmt.Errorf("control: %w", err)
}
