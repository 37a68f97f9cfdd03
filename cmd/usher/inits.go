package main

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/luabridge/modules"
)

const (
	// initPatience is how long the start, or a reload, waits for all init scripts.
	initPatience = 20 * time.Second
	// initAgain is how long an init script that failed waits for its next try.
	initAgain = 30 * time.Second
)

// An initRunner runs a generation's init scripts. At a boot, what they need (Redis)
// may come after usher: those that fail are tried again.
type initRunner struct {
	scripts initScripts
	log     *zap.Logger
	failed  chan struct{}
}

// initScripts are a generation's. RunInit runs those that have not run yet.
type initScripts interface {
	RunInit(ctx context.Context) error
}

func newInitRunner(s initScripts, log *zap.Logger) *initRunner {
	return &initRunner{scripts: s, log: log, failed: make(chan struct{}, 1)}
}

// prepare runs the scripts, once. What they raise is logged and keeps nobody from
// being served: what they would have made, the policy will miss and say so.
func (i *initRunner) prepare(cache *modules.Store) {
	cache.ForgetEnv()
	if !i.try(context.Background()) {
		i.failed <- struct{}{}
	}
}

func (i *initRunner) try(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, initPatience)
	defer cancel()
	err := i.scripts.RunInit(ctx)
	if err == nil {
		return true
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		i.log.Error("init script failed", zap.String("error", line), zap.Duration("tried_again_in", initAgain))
	}
	return false
}

// Run tries again what failed in prepare, until it succeeds or ctx ends.
func (i *initRunner) Run(ctx context.Context) error {
	select {
	case <-i.failed:
	case <-ctx.Done():
		return nil
	}
	t := time.NewTicker(initAgain)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if i.try(ctx) {
				i.log.Info("init scripts have run")
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}
