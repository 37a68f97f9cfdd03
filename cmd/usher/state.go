package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/control"
	"usher/monitor"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// Files in state_dir.
const (
	adminFile = "admin.json" // orders for backends
	usersFile = "users.json" // pins and holds
	movesFile = "moves.json"
	auditFile = "audit.log"
)

// A state is what operators ordered: in state_dir over restarts, or shared by nodes,
// but for moves and what was done here.
type state struct {
	admin  monitor.AdminState
	orders affinity.Orders
	moves  *moves.Engine
	trail  *control.Audit
	holds  *moves.SharedHolds // nil: no nodes share them
}

// openState reads what is in dir and starts nothing: moves wait for their settings.
// With a cluster orders are kept there instead. Every fault is in the error, a line
// each.
func openState(dir string, store affinity.Store, c *cluster, log *zap.Logger) (*state, error) {
	var s state
	var errs [3]error
	opt := moves.Options{Path: filepath.Join(dir, movesFile), Store: store, NewID: func() string { return proxy.NewID(time.Now()) }, Log: log}
	if c == nil {
		s.admin, errs[0] = monitor.OpenAdminFile(filepath.Join(dir, adminFile))
		s.orders, errs[1] = affinity.OpenOrderFile(filepath.Join(dir, usersFile))
	} else {
		s.admin, s.orders = monitor.NewSharedAdmin(c.db, log), affinity.NewValkeyOrders(c.db)
		s.holds = moves.NewSharedHolds(c.db, c.node, log)
		c.orders, opt.Holds = s.orders, s.holds
	}
	s.moves, errs[2] = moves.Open(opt, moves.Settings{})
	s.trail = control.NewAudit(filepath.Join(dir, auditFile))
	return &s, errors.Join(errs[:]...)
}

// leftOrders are the files of orders in dir that a shared store stands instead of.
func leftOrders(dir string) (paths []string) {
	for _, name := range []string{adminFile, usersFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// run does the state's background work until ctx ends.
func (s *state) run(ctx context.Context) {
	var work sync.WaitGroup
	if s.holds != nil {
		work.Go(func() { s.holds.Run(ctx) })
	}
	s.moves.Run(ctx)
	work.Wait()
}
