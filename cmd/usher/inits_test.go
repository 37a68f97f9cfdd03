package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/luabridge/modules"
)

// initsThatFail fail so many times.
type initsThatFail struct{ left, runs int }

func (i *initsThatFail) RunInit(context.Context) error {
	i.runs++
	if i.left--; i.left >= 0 {
		return errors.New("init.lua:1: redis is away")
	}
	return nil
}

// What fails at start is tried again, and no more once it has run.
func TestInitRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		scripts := &initsThatFail{left: 3}
		r := newInitRunner(scripts, zap.New(core))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.prepare(modules.NewStore())
		if scripts.runs != 1 || logs.FilterMessage("init script failed").Len() != 1 {
			t.Errorf("%d runs, log %v", scripts.runs, logs.All())
		}
		time.Sleep(2*initAgain + time.Second)
		if scripts.runs != 3 || logs.FilterMessage("init scripts have run").Len() != 0 {
			t.Errorf("%d runs, log %v", scripts.runs, logs.All())
		}
		time.Sleep(time.Hour)
		if scripts.runs != 4 || logs.FilterMessage("init scripts have run").Len() != 1 {
			t.Errorf("%d runs, log %v", scripts.runs, logs.All())
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()
	})
}

// One whose scripts ran, or whose generation ends, runs nothing again.
func TestInitRunner_Ends(t *testing.T) {
	for _, left := range []int{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			scripts := &initsThatFail{left: left}
			r := newInitRunner(scripts, zap.NewNop())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			r.prepare(modules.NewStore())
			synctest.Wait()
			cancel()
			if err := <-done; err != nil || scripts.runs != 1 {
				t.Errorf("%v, %d runs", err, scripts.runs)
			}
		})
	}
}
