package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
)

// A call is one of the API: what the server answers and what OpenAPI says of it.
type call struct {
	method, path string
	text         string
	query        []queryParam
	in, out      reflect.Type // nil: nothing
	do           func(s Service, r *http.Request) (any, error)
}

type queryParam struct{ name, text string }

const (
	// mapPath answers a JSON object a line, unlike all others.
	mapPath = "/v1/map"
	// openAPIPath describes all others.
	openAPIPath = "/v1/openapi.json"
)

// calls are all but these.
var calls = []call{
	ask("/v1/status", "The state of usher and of its backends.", func(s Service, _ *http.Request) (Status, error) { return s.Status(), nil }),
	ask("/v1/users/{user}", "Where a user is, and what was ordered for him.", func(s Service, r *http.Request) (UserStatus, error) {
		return s.User(r.Context(), r.PathValue("user"))
	}),
	ask("/v1/moves", "The moves that are known, the newest first.", func(s Service, _ *http.Request) ([]Move, error) { return s.Moves(), nil }),
	ask("/v1/moves/{id}", "A move.", func(s Service, r *http.Request) (Move, error) { return s.MoveOf(r.PathValue("id")) }),
	ask("/v1/flushes/{id}", "How far a flush is.", func(s Service, r *http.Request) (Flush, error) { return s.FlushOf(r.PathValue("id")) }),
	ask("/v1/decisions", "The last decisions with that id, or of that user, the newest first.", func(s Service, r *http.Request) ([]DecisionRecord, error) {
		found := s.Decisions(r.URL.Query().Get("id"), r.URL.Query().Get("user"))
		if len(found) == 0 {
			return nil, fmt.Errorf("decision: %w among those that are kept (control.decisions)", ErrNotFound)
		}
		return found, nil
	}, queryParam{"id", "of the decision's log line"}, queryParam{"user", "a user's name"}),
	ask("/v1/dump", "Commands that restore what operators ordered.", func(s Service, r *http.Request) ([]string, error) { return s.Dump(r.Context()) }),
	ask("/v1/nodes", "The ushers that share the state.", func(s Service, r *http.Request) ([]Node, error) { return s.Nodes(r.Context()) }),
	ask("/v1/audit", "The last changes, the newest last.", func(s Service, r *http.Request) ([]AuditRecord, error) {
		most, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("last"), "100"))
		if err != nil || most < 1 || most > maxAudit {
			return nil, fmt.Errorf("last: %.40q; expected 1 to %d", r.URL.Query().Get("last"), maxAudit)
		}
		return s.Audit(most)
	}, queryParam{"last", "how many, 100 if it is left out"}),

	tell(http.MethodPost, "/v1/route", "Where a user would go, and why. It leaves nothing behind.", func(ctx context.Context, s Service, _ *http.Request, q RouteQuery) (RouteAnswer, error) {
		return s.Route(ctx, q)
	}),
	tell(http.MethodPost, "/v1/reload", "Read configuration and scripts anew.", func(_ context.Context, s Service, r *http.Request, _ struct{}) (struct{}, error) {
		force, err := strconv.ParseBool(cmp.Or(r.URL.Query().Get("force"), "false"))
		if err != nil {
			return struct{}{}, fmt.Errorf("force: %.40q; expected true or false", r.URL.Query().Get("force"))
		}
		return struct{}{}, s.Reload(force)
	}, queryParam{"force", "true: take a policy that raises an error for the probe request"}),

	tell(http.MethodPatch, "/v1/backends/{target}", "Order a backend up, down or drained, or give its host weight.", func(ctx context.Context, s Service, r *http.Request, o BackendOrder) (BackendAnswer, error) {
		o.Target, o.By = r.PathValue("target"), cmp.Or(o.By, peerName(r))
		return s.Order(ctx, o)
	}),
	tell(http.MethodPost, "/v1/backends", "Add a backend.", func(ctx context.Context, s Service, r *http.Request, o BackendAdd) (BackendAnswer, error) {
		o.By = cmp.Or(o.By, peerName(r))
		return s.AddBackend(ctx, o)
	}),
	tell(http.MethodDelete, "/v1/backends/{target}", "Take a backend out.", func(ctx context.Context, s Service, r *http.Request, o BackendRemove) (BackendAnswer, error) {
		o.Target, o.By = r.PathValue("target"), cmp.Or(o.By, peerName(r))
		return s.RemoveBackend(ctx, o)
	}),
	tell(http.MethodPost, "/v1/backends/{target}/check", "Check a backend now.", func(ctx context.Context, s Service, r *http.Request, _ struct{}) ([]CheckReport, error) {
		return s.CheckBackend(ctx, r.PathValue("target"))
	}),

	tellUser(http.MethodPost, "/v1/users/{user}/move", "Take a user to another host. The answer comes at once: the move is on its way.", Service.Move),
	tellUser(http.MethodPut, "/v1/users/{user}/pin", "Let a user go to a host, whatever the policy selects.", Service.Pin),
	tellUser(http.MethodDelete, "/v1/users/{user}/pin", "Take a pin away.", Service.Unpin),
	tellUser(http.MethodPut, "/v1/users/{user}/hold", "Let a user's logins wait.", Service.Hold),
	tellUser(http.MethodDelete, "/v1/users/{user}/hold", "End a hold.", Service.Release),
	tellUser(http.MethodPost, "/v1/users/{user}/kick", "End a user's sessions.", Service.Kick),
	tell(http.MethodPost, "/v1/moves/{id}/undo", "Take a move back.", func(ctx context.Context, s Service, r *http.Request, o UserOrder) (Move, error) {
		o.By = cmp.Or(o.By, peerName(r))
		return s.Undo(ctx, r.PathValue("id"), o)
	}),
	tell(http.MethodPost, "/v1/flushes", "Move all users of a host to where the hash sends them now.", func(ctx context.Context, s Service, r *http.Request, o FlushOrder) (Flush, error) {
		o.By = cmp.Or(o.By, peerName(r))
		return s.Flush(ctx, o)
	}),
	tell(http.MethodDelete, "/v1/flushes/{id}", "Stop a flush after the moves on their way.", func(ctx context.Context, s Service, r *http.Request, o UserOrder) (Flush, error) {
		o.By = cmp.Or(o.By, peerName(r))
		return s.StopFlush(ctx, r.PathValue("id"), o)
	}),
}

// maxAudit is how many records can be asked for.
const maxAudit = 100_000

// ask is a call that changes nothing.
func ask[Out any](path, text string, f func(Service, *http.Request) (Out, error), query ...queryParam) call {
	return call{
		method: http.MethodGet, path: path, text: text, query: query, out: reflect.TypeFor[Out](),
		do: func(s Service, r *http.Request) (any, error) { return f(s, r) },
	}
}

// tell is a call with a body, which may be left out.
func tell[In, Out any](method, path, text string, f func(context.Context, Service, *http.Request, In) (Out, error), query ...queryParam) call {
	c := call{method: method, path: path, text: text, query: query, out: reflect.TypeFor[Out]()}
	if in := reflect.TypeFor[In](); in.NumField() > 0 {
		c.in = in
	}
	c.do = func(s Service, r *http.Request) (any, error) {
		var in In
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("request: %w", err)
		}
		return f(r.Context(), s, r, in)
	}
	return c
}

func tellUser[Out any](method, path, text string, f func(Service, context.Context, UserOrder) (Out, error)) call {
	return tell(method, path, text, func(ctx context.Context, s Service, r *http.Request, o UserOrder) (Out, error) {
		o.User, o.By = r.PathValue("user"), cmp.Or(o.By, peerName(r))
		return f(s, ctx, o)
	})
}
