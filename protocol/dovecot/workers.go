package dovecot

import "sync/atomic"

// maxIdle bounds the goroutines that wait for work.
const maxIdle = 256

// workers run functions on goroutines that are used again: a decision goes deep
// (Lua), and a fresh goroutine would spend a good part of its time growing its
// stack.
type workers struct {
	work chan func()
	idle atomic.Int32
}

func newWorkers() *workers { return &workers{work: make(chan func())} }

// run runs f on a goroutine that waits for work, or on a new one.
func (w *workers) run(f func()) {
	select {
	case w.work <- f:
	default:
		go w.serve(f)
	}
}

func (w *workers) serve(f func()) {
	for {
		f()
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return
		}
		next, ok := <-w.work
		w.idle.Add(-1)
		if !ok {
			return
		}
		f = next
	}
}

// close ends the goroutines that wait. Nothing may be run afterwards.
func (w *workers) close() { close(w.work) }
