package passdb

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers(2, 1)
		release := make(chan struct{})
		var wg sync.WaitGroup
		errs := make(chan error, 3)
		for range 3 { // two at work, one in line
			wg.Go(func() { errs <- w.Do(t.Context(), func() { <-release }) })
		}
		synctest.Wait()
		if err := w.Do(t.Context(), func() { t.Error("ran without a slot") }); !errors.Is(err, ErrOverload) {
			t.Errorf("line full: error %v", err)
		}
		close(release)
		wg.Wait()
		for range 3 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := w.Do(t.Context(), func() {}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestWorkers_ContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers(1, 1)
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Do(t.Context(), func() { <-release }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			err := w.Do(ctx, func() { t.Error("ran after the end") })
			if !errors.Is(err, ErrOverload) || !errors.Is(err, context.Canceled) {
				t.Errorf("waiting: error %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := w.waiting.Load(); n != 0 {
			t.Errorf("%d left in line", n)
		}
		close(release)
		wg.Wait()
		if err := w.Do(ctx, func() { t.Error("ran after the end") }); !errors.Is(err, ErrOverload) {
			t.Errorf("free slot: error %v", err)
		}
	})
}

func TestWorkers_SurvivePanics(t *testing.T) {
	w := newWorkers(1, 0)
	func() {
		defer func() { _ = recover() }()
		_ = w.Do(t.Context(), func() { panic("hash") })
	}()
	if err := w.Do(t.Context(), func() {}); err != nil {
		t.Errorf("the slot was lost: %v", err)
	}
}
