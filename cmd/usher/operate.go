package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/control"
	"usher/monitor"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// errAffinityOff refuses orders for users where no assignments are kept.
var errAffinityOff = errors.New("affinity.mode is off: users have no host of their own")

// audit notes a change, or why it was refused. What can't be noted is logged: the
// change is made by then.
func (a *app) audit(by, reason, action, result string, err error) {
	r := control.AuditRecord{At: time.Now().UTC(), By: by, Reason: reason, Action: action, Result: result}
	if err != nil {
		r.Error = err.Error()
	}
	if err := a.state.trail.Add(r); err != nil {
		a.log.Error("audit", zap.String("action", action), zap.String("by", by), zap.Error(err))
	}
}

// command is an order as a command line.
func command(words ...string) string {
	for i, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`'"\$&;|<>*?()[]{}#~`+"`", r) }) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return "usher " + strings.Join(words, " ")
}

// checkWords bounds who and why: they go to logs and terminals.
func checkWords(by, reason string) error {
	for _, s := range []string{by, reason} {
		if len(s) > maxWords || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("who and why are at most %d bytes without control characters", maxWords)
		}
	}
	return nil
}

const maxWords = 300

// order checks what all orders for a user have in common, and returns his name as
// orders go by it.
func (a *app) order(o *control.UserOrder) (g *generation, user string, s affinity.Stamp, err error) {
	g = a.gen.Load()
	if err := errors.Join(proxy.ValidUser(o.User), checkWords(o.By, o.Reason)); err != nil {
		return nil, "", s, err
	}
	if o.Tag != "" && !slices.Contains(g.tags(""), o.Tag) {
		return nil, "", s, notFound{fmt.Errorf("no host has the tag %.80q", o.Tag)}
	}
	return g, affinity.OrderName(o.User, g.cfg.Dovecot.MasterUserSeparator), affinity.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason}, nil
}

// User implements control.Service.
func (a *app) User(ctx context.Context, user string) (control.UserStatus, error) {
	g, name, _, err := a.order(&control.UserOrder{User: user})
	if err != nil {
		return control.UserStatus{}, err
	}
	u := control.UserStatus{User: user, Key: affinity.KeyName(user, g.cfg.Dovecot.MasterUserSeparator, affinity.Scope(g.cfg.Affinity.Key))}
	for _, tag := range append([]string{""}, g.tags("")...) {
		as, err := a.store.Get(ctx, affinity.Key{Tag: tag, Name: u.Key})
		if err != nil {
			return u, err
		}
		if as.Host != "" {
			u.Assigned = cmp.Or(u.Assigned, as.Host)
			u.Assignments = append(u.Assignments, assignment(as))
		}
		if m, ok := a.state.moves.Of(affinity.Key{Tag: tag, Name: u.Key}); ok {
			shown := showMove(m)
			u.Move = &shown
		}
	}
	pins, holds, err := a.state.orders.Standing(ctx)
	if err != nil {
		return u, err
	}
	if p, ok := pins[name]; ok {
		u.Pinned, u.PinnedBy = p.Host, showStamp(p.Stamp)
	}
	if h, ok := holds[name]; ok {
		u.HeldBy = showStamp(h.Stamp)
	}
	return u, nil
}

func assignment(a affinity.Assignment) control.Assignment {
	return control.Assignment{Key: a.Key.Name, Tag: a.Key.Tag, Host: a.Host, Expires: a.Expires, Users: a.Users}
}

func showStamp(s affinity.Stamp) *control.Stamp {
	return &control.Stamp{By: s.By, At: s.At, Reason: s.Reason}
}

func showMove(m moves.Move) control.Move {
	return control.Move{
		ID: m.ID, User: m.User, Key: m.Key.Name, Tag: m.Key.Tag, From: m.From, To: m.To, State: string(m.State), Error: m.Error, Force: m.Force,
		Pin: m.Pin, Flush: m.Flush, Undoes: m.Undoes, By: *showStamp(m.Stamp), Began: m.Began, Changed: m.Changed,
		Done: m.State.Ended(), OK: m.State == moves.Done,
	}
}

// Move implements control.Service.
func (a *app) Move(ctx context.Context, o control.UserOrder) (control.Move, error) {
	return a.move(ctx, o, false)
}

// move moves a user, and pins him in the end.
func (a *app) move(ctx context.Context, o control.UserOrder, pin bool) (m control.Move, err error) {
	g, name, stamp, err := a.order(&o)
	if err != nil {
		return m, err
	}
	to, err := g.hostNamed(o.Host)
	if err != nil {
		return m, err
	}
	verb := "move"
	if pin {
		verb = "pin"
	}
	if !o.DryRun {
		defer func() { a.audit(o.By, o.Reason, command(verb, o.User, to), m.ID, err) }()
	}
	if g.cfg.Affinity.Mode == "off" {
		return m, errAffinityOff
	}
	key, as, err := a.keyFor(ctx, g, o.User, o.Tag, to)
	if err != nil {
		return m, err
	}
	_, blind := g.sightOf(as.Host)
	m = control.Move{User: o.User, Key: key.Name, Tag: key.Tag, From: as.Host, To: to, Users: as.Users, Force: o.Force, Pin: pin, Warning: blind, By: *showStamp(stamp), DryRun: o.DryRun}
	if !o.Force {
		if err := a.mayMove(ctx, g, as, &m, pin); err != nil {
			return m, err
		}
	}
	if o.DryRun {
		return m, nil
	}
	pinned, err := a.state.orders.Pin(ctx, name)
	if err != nil {
		return m, err
	}
	started, err := a.state.moves.Start(ctx, moves.Order{User: o.User, Key: key, To: to, Force: o.Force, Pin: pin, Pinned: pinned, Stamp: stamp})
	if err != nil {
		return m, err
	}
	shown := showMove(started)
	shown.Users, shown.Warning = m.Users, m.Warning
	return shown, nil
}

// unfit says why a key should not be on a host, "" for it may.
func (g *generation) unfit(as affinity.Assignment, key affinity.Key, to string) string {
	v := g.monitor.View()
	h := v.Host(to)
	if h == nil {
		return ""
	}
	if h.Down {
		return fmt.Sprintf("host %s is down", to)
	}
	tag := key.Tag
	if old := v.Host(as.Host); old != nil && len(old.Tags) > 0 {
		tag = old.Tags[0]
	}
	if first := h.Entries[0].Tag(); tag != "" && first != tag {
		return fmt.Sprintf("host %s has the tag %q, and the user belongs to %q", to, first, tag)
	}
	return ""
}

// Pin implements control.Service.
func (a *app) Pin(ctx context.Context, o control.UserOrder) (ans control.UserAnswer, err error) {
	g, name, stamp, err := a.order(&o)
	if err != nil {
		return ans, err
	}
	host, err := g.hostNamed(o.Host)
	if err != nil {
		return ans, err
	}
	ans = control.UserAnswer{User: o.User, DryRun: o.DryRun, Done: "pinned to " + host}
	if g.cfg.Affinity.Mode != "off" {
		_, as, err := a.keyFor(ctx, g, o.User, o.Tag, host)
		if err != nil {
			return ans, err
		}
		if as.Host != "" && as.Host != host {
			m, err := a.move(ctx, o, true)
			ans.Done, ans.Move = fmt.Sprintf("moved from %s and pinned to %s", as.Host, host), &m
			return ans, err
		}
	}
	if o.DryRun {
		return ans, nil
	}
	err = a.state.orders.SetPin(ctx, name, affinity.Pin{Host: host, Stamp: stamp})
	a.audit(o.By, o.Reason, command("pin", o.User, host), "", err)
	if err != nil || g.cfg.Affinity.Mode == "off" {
		return ans, err
	}
	// A login that knew of no pin may have been placed meanwhile.
	if _, as, err := a.keyFor(ctx, g, o.User, o.Tag, host); err != nil || as.Host == "" || as.Host == host {
		return ans, err
	}
	m, err := a.move(ctx, o, true)
	ans.Move = &m
	return ans, err
}

// Unpin implements control.Service.
func (a *app) Unpin(ctx context.Context, o control.UserOrder) (control.UserAnswer, error) {
	pins, _, err := a.state.orders.Standing(ctx)
	if err != nil {
		return control.UserAnswer{}, err
	}
	return a.lift(ctx, o, "unpin", "not pinned any more", "is not pinned", func(name string) bool { _, ok := pins[name]; return ok }, a.state.orders.Unpin)
}

// Release implements control.Service.
func (a *app) Release(ctx context.Context, o control.UserOrder) (control.UserAnswer, error) {
	_, holds, err := a.state.orders.Standing(ctx)
	if err != nil {
		return control.UserAnswer{}, err
	}
	return a.lift(ctx, o, "release", "released", "is not held", func(name string) bool { _, ok := holds[name]; return ok }, a.state.orders.Release)
}

// lift takes an order for a user away.
func (a *app) lift(ctx context.Context, o control.UserOrder, verb, done, none string, stands func(name string) bool, lift func(context.Context, string) (bool, error)) (control.UserAnswer, error) {
	ans := control.UserAnswer{User: o.User, Done: done, DryRun: o.DryRun}
	_, name, _, err := a.order(&o)
	if err != nil {
		return ans, err
	}
	found := stands(name)
	if !o.DryRun {
		found, err = lift(ctx, name)
	}
	if err == nil && !found {
		err = notFound{fmt.Errorf("%s %s", o.User, none)}
	}
	if !o.DryRun {
		a.audit(o.By, o.Reason, command(verb, o.User), "", err)
	}
	return ans, err
}

// Hold implements control.Service.
func (a *app) Hold(ctx context.Context, o control.UserOrder) (control.UserAnswer, error) {
	ans := control.UserAnswer{User: o.User, Done: "held: logins wait until usher release", DryRun: o.DryRun}
	_, name, stamp, err := a.order(&o)
	if err != nil || o.DryRun {
		return ans, err
	}
	err = a.state.orders.SetHold(ctx, name, affinity.Hold{Stamp: stamp})
	a.audit(o.By, o.Reason, command("hold", o.User), "", err)
	return ans, err
}

// Kick implements control.Service.
func (a *app) Kick(ctx context.Context, o control.UserOrder) (ans control.KickAnswer, err error) {
	g, _, _, err := a.order(&o)
	if err != nil {
		return ans, err
	}
	if !o.DryRun {
		defer func() {
			a.audit(o.By, o.Reason, command("kick", o.User), fmt.Sprintf("%d sessions", len(ans.Sessions)), err)
		}()
	}
	key, as, err := a.keyFor(ctx, g, o.User, o.Tag, "")
	if err != nil {
		return ans, err
	}
	ans = control.KickAnswer{User: o.User, Users: []string{o.User}, Sessions: []control.Session{}, DryRun: o.DryRun}
	if affinity.Scope(g.cfg.Affinity.Key) == affinity.ByUser {
		for _, u := range append(as.Users, key.Name) { // the same user by other names
			if !slices.Contains(ans.Users, u) {
				ans.Users = append(ans.Users, u)
			}
		}
	}
	seers, blind := g.sightOf(as.Host)
	if len(seers) == 0 {
		return ans, fmt.Errorf("%s", cmp.Or(blind, "no Dovecot lists its sessions: dovecot.doveadm is empty"))
	}
	var errs []error
	answer := seers[:0:0]
	for _, k := range seers {
		list, err := k.Sessions(ctx, ans.Users)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answer = append(answer, k)
		for _, s := range list {
			ans.Sessions = append(ans.Sessions, control.Session{User: s.User, Service: s.Service, RemoteIP: s.RemoteIP, Host: s.Host, At: s.At})
		}
	}
	if !o.DryRun && len(ans.Sessions) > 0 {
		// Where a server does not answer the sessions at the others end all the same.
		gone, left, err := moves.Kick(ctx, answer, ans.Users, "", g.cfg.Affinity.MoveTimeout)
		if err == nil && !gone {
			err = fmt.Errorf("%d sessions live on, the first at %s", len(left), left[0].At)
		}
		errs = append(errs, err)
	}
	if blind != "" {
		errs = append(errs, errors.New(blind))
	}
	return ans, errors.Join(errs...)
}

// MoveOf implements control.Service.
func (a *app) MoveOf(id string) (control.Move, error) {
	m, err := a.state.moves.Get(id)
	if err != nil {
		return control.Move{}, notFound{err}
	}
	return showMove(m), nil
}

// Moves implements control.Service.
func (a *app) Moves() []control.Move {
	out := []control.Move{}
	for _, m := range a.state.moves.Moves() {
		out = append(out, showMove(m))
	}
	return out
}

// Undo implements control.Service.
func (a *app) Undo(ctx context.Context, id string, o control.UserOrder) (control.Move, error) {
	if err := checkWords(o.By, o.Reason); err != nil {
		return control.Move{}, err
	}
	back, m, err := a.state.moves.Back(ctx, id)
	if errors.Is(err, moves.ErrNoMove) {
		return control.Move{}, notFound{err}
	}
	shown := showMove(m)
	switch {
	case err != nil:
	case m.State != moves.Done:
		shown.State = string(moves.Undone)
	default:
		shown = control.Move{User: m.User, Key: m.Key.Name, Tag: m.Key.Tag, From: m.To, To: m.From, Undoes: id, Force: o.Force, Pin: back.Pin}
		if !o.Force {
			err = a.mayMove(ctx, a.gen.Load(), affinity.Assignment{Key: m.Key, Host: m.To}, &shown, m.Pin)
		}
	}
	if o.DryRun || err != nil {
		shown.DryRun = o.DryRun
		if !o.DryRun {
			a.audit(o.By, o.Reason, command("undo", id), m.ID, err)
		}
		return shown, err
	}
	m, err = a.state.moves.Undo(ctx, id, o.Force, affinity.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason})
	a.audit(o.By, o.Reason, command("undo", id), m.ID, err)
	return showMove(m), err
}

// mayMove returns why a move should not be made without force. repin: it changes
// the user's pin, if he has one.
func (a *app) mayMove(ctx context.Context, g *generation, as affinity.Assignment, m *control.Move, repin bool) error {
	why := g.unfit(as, affinity.Key{Tag: m.Tag, Name: m.Key}, m.To)
	if why == "" {
		_, why = g.sightOf(as.Host)
	}
	if why == "" && !repin {
		pin, err := a.state.orders.Pin(ctx, affinity.OrderName(m.User, g.cfg.Dovecot.MasterUserSeparator))
		if err != nil {
			return err
		}
		if pin != "" && pin != m.To {
			why = fmt.Sprintf("%s is pinned to %s and would come back there: usher pin %s %s moves him with his pin", m.User, pin, m.User, m.To)
		}
	}
	if why != "" {
		return fmt.Errorf("%s; --force moves him all the same", why)
	}
	return nil
}

// Flush implements control.Service.
func (a *app) Flush(ctx context.Context, o control.FlushOrder) (f control.Flush, err error) {
	g := a.gen.Load()
	if err := checkWords(o.By, o.Reason); err != nil {
		return f, err
	}
	host := ""
	if o.Host != "all" {
		if host, err = g.hostNamed(o.Host); err != nil {
			return f, err
		}
	}
	if o.Rate < 0 {
		return f, fmt.Errorf("rate %g; expected a number of users per second", o.Rate)
	}
	if !o.DryRun {
		words := []string{"flush", cmp.Or(host, "all")}
		if o.Rate > 0 {
			words = append(words, "--rate", fmt.Sprintf("%g/s", o.Rate))
		}
		defer func() { a.audit(o.By, o.Reason, command(words...), f.ID, err) }()
	}
	if g.cfg.Affinity.Mode == "off" {
		return f, errAffinityOff
	}
	if o.Forget {
		return a.forget(ctx, host, o)
	}
	if err := g.seesAll(host); err != nil && !o.Force {
		return f, fmt.Errorf("%w; --force moves them all the same", err)
	}
	stamp := affinity.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason}
	order := moves.Flush{Host: host, PerSec: o.Rate, Force: o.Force, Stamp: stamp}
	if o.DryRun {
		order.Total, order.Moved, err = a.state.moves.Count(ctx, host)
		order.Stays = order.Total - order.Moved
		f = showFlush(order)
		f.DryRun = true
		return f, err
	}
	order, err = a.state.moves.StartFlush(ctx, order)
	return showFlush(order), err
}

// forget drops the assignments of a host, "" for all; sessions live on.
func (a *app) forget(ctx context.Context, host string, o control.FlushOrder) (control.Flush, error) {
	f := control.Flush{Host: cmp.Or(host, "all"), State: string(moves.Done), Done: true, DryRun: o.DryRun, By: control.Stamp{By: o.By, At: time.Now().UTC(), Reason: o.Reason}}
	var found error
	err := a.store.Each(ctx, host, func(as affinity.Assignment) bool {
		if !o.DryRun { // no lock is held here
			found = a.store.Forget(ctx, as.Key, as.Host)
		}
		f.Total++
		f.Moved++
		return found == nil
	})
	return f, errors.Join(err, found)
}

// seesAll returns why the sessions of the users of a host, "" for all hosts, can't
// all be seen.
func (g *generation) seesAll(host string) error {
	for _, h := range g.hostsOf(host) {
		if _, blind := g.sightOf(h); blind != "" {
			return errors.New(blind)
		}
	}
	return nil
}

func showFlush(f moves.Flush) control.Flush {
	return control.Flush{
		ID: f.ID, Host: cmp.Or(f.Host, "all"), State: string(f.State), Rate: f.PerSec, Total: f.Total, Moved: f.Moved, Stays: f.Stays, Failed: f.Failed,
		Error: f.Error, By: *showStamp(f.Stamp), Changed: f.Changed, Done: f.State.Ended(),
	}
}

// FlushOf implements control.Service.
func (a *app) FlushOf(id string) (control.Flush, error) {
	f, ok := a.state.moves.Flush(id)
	if !ok {
		return control.Flush{}, notFound{fmt.Errorf("no such flush: %.80s", id)}
	}
	return showFlush(f), nil
}

// StopFlush implements control.Service.
func (a *app) StopFlush(_ context.Context, id string, o control.UserOrder) (control.Flush, error) {
	if err := checkWords(o.By, o.Reason); err != nil {
		return control.Flush{}, err
	}
	f, ok := a.state.moves.Flush(id)
	if !ok || f.State.Ended() {
		return control.Flush{}, notFound{fmt.Errorf("no flush %.80s is on its way", id)}
	}
	if o.DryRun {
		shown := showFlush(f)
		shown.DryRun = true
		return shown, nil
	}
	f, err := a.state.moves.StopFlush(id, affinity.Stamp{By: o.By, Reason: o.Reason})
	if errors.Is(err, moves.ErrNoMove) {
		err = notFound{err}
	}
	a.audit(o.By, o.Reason, "stop of flush "+id, "", err)
	return showFlush(f), err
}

// Map implements control.Service.
func (a *app) Map(ctx context.Context, host, tag string, yield func(control.Assignment) bool) error {
	id := ""
	if host != "" {
		var err error
		if id, err = a.gen.Load().hostNamed(host); err != nil {
			return err
		}
	}
	return a.store.Each(ctx, id, func(as affinity.Assignment) bool {
		return tag != "" && as.Key.Tag != tag || yield(assignment(as))
	})
}

// Decisions implements control.Service.
func (a *app) Decisions(id, user string) []control.DecisionRecord {
	return a.metrics.Decisions(id, user, 100)
}

// Dump implements control.Service.
func (a *app) Dump(ctx context.Context) ([]string, error) {
	lines := []string{}
	with := func(reason string, words ...string) {
		if reason != "" {
			words = append(words, "--reason", reason)
		}
		lines = append(lines, command(words...))
	}
	lines = append(lines, a.dumpInventory()...)
	a.state.admin.Orders().Each(func(target string, o monitor.Order) {
		if o.Weight != nil {
			with(o.WeightStamp.Reason, "backend", "weight", target, fmt.Sprint(*o.Weight))
		}
		if o.State != "" {
			with(o.StateStamp.Reason, "backend", o.State, target)
		}
	})
	pins, holds, err := a.state.orders.Standing(ctx)
	if err != nil {
		return nil, err
	}
	for _, user := range slices.Sorted(maps.Keys(pins)) {
		with(pins[user].Stamp.Reason, "pin", user, pins[user].Host)
	}
	for _, user := range slices.Sorted(maps.Keys(holds)) {
		with(holds[user].Stamp.Reason, "hold", user)
	}
	return lines, nil
}

// Nodes implements control.Service.
func (a *app) Nodes(context.Context) ([]control.Node, error) {
	if a.cluster != nil {
		return a.cluster.nodes(), nil
	}
	g := a.gen.Load()
	return []control.Node{{Name: nodeName(g.cfg), Version: version(), Ready: g.monitor.Ready(), Self: true, Started: a.started, Seen: time.Now()}}, nil
}

// Audit implements control.Service.
func (a *app) Audit(most int) ([]control.AuditRecord, error) { return a.state.trail.Last(most) }
