package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// UserStatus is where a user is.
type UserStatus struct {
	User     string `json:"user"`
	Key      string `json:"key"`
	Assigned string `json:"assigned,omitempty"` // host of the live assignment
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
