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
	adminFile      = "admin.json"    // orders for backends
	addedFile      = "backends.json" // added and removed ones
	usersFile      = "users.json"    // pins and holds
	movesFile      = "moves.json"
	auditFile      = "audit.log"
	assignmentsDir = "assignments"  // a folder
	hashFile       = "awaited.json" // moves of users not seen yet
)

// A state is what operators ordered: in state_dir over restarts, or shared by nodes,
// but for moves and what was done here.
type state struct {
	admin  monitor.AdminState
	added  *inventoryFile
	orders affinity.Orders
	moves  *moves.Engine
	trail  *control.Audit
	holds  *moves.SharedHolds // nil: no nodes share them

	awaited *awaited
	kept    *affinity.Snapshot // of assignments; nil: they are not kept
}

// openState reads what is in dir and starts nothing: moves wait for their settings.
// With a cluster orders are kept there instead. Every fault is in the error, a line
// each.
func openState(dir string, store affinity.Store, c *cluster, log *zap.Logger) (*state, error) {
	var s state
	var errs [5]error
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
	s.added, errs[3] = openInventoryFile(filepath.Join(dir, addedFile))
	s.awaited, errs[4] = openAwaited(filepath.Join(dir, hashFile))
	s.trail = control.NewAudit(filepath.Join(dir, auditFile))
	return &s, errors.Join(errs[:]...)
}

// keep reads the assignments that are kept in dir into store, and has them kept on.
// Where that is not possible logins are worth more than what a restart forgets.
func (s *state) keep(dir string, store *affinity.Memory, log *zap.Logger) {
	var err error
	if s.kept, err = affinity.OpenSnapshot(filepath.Join(dir, assignmentsDir), store, log); err != nil {
		log.Error("assignments are not kept over a restart", zap.Error(err))
	}
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
	defer work.Wait()
	work.Go(func() { s.moves.Run(ctx) })
	if s.kept != nil {
		work.Go(func() { s.kept.Run(ctx) })
	}
	if s.holds != nil {
		work.Go(func() { s.holds.Run(ctx) })
	}
}

// close keeps what is left, when run has returned and logins have ended.
func (s *state) close() error {
	if s.kept == nil {
		return nil
	}
	return s.kept.Close()
}
