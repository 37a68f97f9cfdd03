package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	// AddBackend and RemoveBackend change the inventory, for good. An error means that
	// nothing has changed.
	AddBackend(ctx context.Context, o BackendAdd) (BackendAnswer, error)
	RemoveBackend(ctx context.Context, o BackendRemove) (BackendAnswer, error)
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
	for _, call := range calls {
		mux.HandleFunc(call.method+" "+call.path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := call.do(s, r)
			writeJSON(w, log, v, err)
		})
	}
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		doc, err := OpenAPI()
		writeJSON(w, log, doc, err)
	})
	mux.HandleFunc("GET "+mapPath, func(w http.ResponseWriter, r *http.Request) { writeMap(w, r, s, log) })
	return mux
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
