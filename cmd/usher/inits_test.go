package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/luabridge/modules"
)

// initsThatFail fail so many times.
type initsThatFail struct{ left, runs atomic.Int32 }

func (i *initsThatFail) RunInit(context.Context) error {
	i.runs.Add(1)
	if i.left.Add(-1) >= 0 {
		return errors.New("init.lua:1: redis is away")
	}
	return nil
}

// What fails at start is tried again, and no more once it has run.
func TestInitRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		scripts := &initsThatFail{}
		scripts.left.Store(3)
		r := newInitRunner(scripts, zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.prepare(modules.NewStore())
		if scripts.runs.Load() != 1 || logs.FilterMessage("init script failed").Len() != 1 {
			t.Errorf("%d runs, log %v", scripts.runs.Load(), logs.All())
		}
		time.Sleep(2*initAgain + time.Second)
		synctest.Wait()
		if scripts.runs.Load() != 3 || logs.FilterMessage("init scripts have run").Len() != 0 {
			t.Errorf("%d runs, log %v", scripts.runs.Load(), logs.All())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if scripts.runs.Load() != 4 || logs.FilterMessage("init scripts have run").Len() != 1 {
			t.Errorf("%d runs, log %v", scripts.runs.Load(), logs.All())
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()
	})
}

// One whose scripts ran, or whose generation ends, runs nothing again.
func TestInitRunner_Ends(t *testing.T) {
	for _, left := range []int32{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			scripts := &initsThatFail{}
			scripts.left.Store(left)
			r := newInitRunner(scripts, zap.NewNop())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			r.prepare(modules.NewStore())
			synctest.Wait()
			cancel()
			if err := <-done; err != nil || scripts.runs.Load() != 1 {
				t.Errorf("%v, %d runs", err, scripts.runs.Load())
			}
		})
	}
}
