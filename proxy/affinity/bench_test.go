package affinity

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// nth is the name of user i. Making it costs more than a look-up: benchmarks take
// theirs from names.
func nth(i int) string { return "user" + strconv.Itoa(1_000_000+i) + "@example.org" }

// names are those of 2^19 users among n, without order.
func names(n int) []string {
	list := make([]string, 1<<19)
	for i := range list {
		list[i] = nth(i * 7919 % n)
	}
	return list
}

// filled is a Memory of n users on 100 hosts. It reports bytes in the heap for
// each, after a collection.
func filled(b *testing.B, n int) *Memory {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := newMemory(b, 2*n)
	hosts := make([]string, 100)
	for i := range hosts {
		hosts[i] = fmt.Sprint("host", i)
	}
	for i := range n {
		if _, err := m.Claim(context.Background(), Key{Name: nth(i)}, "", hosts[i%100]); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("%d users: %.1f bytes in use for each", n, float64(after.HeapInuse-before.HeapInuse)/float64(n))
	return m
}

// cpu is the time that the process has computed: where the machine is shared, a
// truer measure than the clock.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("users=%.0e", float64(n)), func(b *testing.B) {
			m, some := filled(b, n), names(n)
			var turn atomic.Int64
			run := func(name string, op func(i int) error) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					before := cpu()
					b.RunParallel(func(pb *testing.PB) {
						for i := int(turn.Add(314159)); pb.Next(); i++ {
							if err := op(i & (len(some) - 1)); err != nil {
								b.Error(err)
							}
						}
					})
					b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
				})
			}
			ctx := context.Background()
			run("op=lookup", func(i int) error {
				_, err := m.Lookup(ctx, Key{Name: some[i]})
				return err
			})
			run("op=claim", func(i int) error { // a login that stays
				_, err := m.Claim(ctx, Key{Name: some[i]}, "host7", "host7")
				return err
			})
			run("op=set", func(i int) error { // every one moves
				return m.Set(ctx, Key{Name: some[i]}, []string{"host1", "host2", "host3"}[i%3])
			})
			run("op=refresh", func(i int) error { return m.Refresh(ctx, some[i]) })

			s, err := OpenSnapshot(b.TempDir(), m, zap.NewNop())
			if err != nil {
				b.Fatal(err)
			}
			kept, stop := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() { s.Run(kept) })
			run("op=set-kept", func(i int) error { // beside the first snapshot, and journals
				return m.Set(ctx, Key{Name: some[i]}, []string{"host4", "host5", "host6"}[i%3])
			})
			if s.said != nil {
				b.Error(s.said)
			}
			stop()
			wg.Wait()
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

// threadCPU is the time that this thread has computed.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// BenchmarkStep measures how long what holds a shard's lock takes at most: the
// time that it computes, since the clock would show what else the machine does.
// step=lookup is for comparison, and holds none.
func BenchmarkStep(b *testing.B) {
	const n = 1_000_000
	ctx := context.Background()
	m, some := filled(b, n), names(n)
	m.gather(&pending{most: maxPending}) // what it holds then is thrown away
	at, added := make([]cursor, shards), 0
	var g segment
	var part []byte
	for _, step := range []struct {
		name string
		f    func(i int)
	}{
		{"lookup", func(i int) { _, _ = m.Lookup(ctx, Key{Name: some[i%len(some)]}) }},
		{"claim", func(i int) { _, _ = m.Claim(ctx, Key{Name: some[i%len(some)]}, "", "host7") }},
		{"copy", func(i int) {
			i %= shards
			if at[i] = m.shard[i].copySegment(at[i], &g); at[i] == lastCursor {
				at[i] = 0
			}
		}},
		{"flush", func(i int) {
			s := &m.shard[i%shards]
			s.mu.Lock()
			_, part = s.out.take(part[:0])
			s.mu.Unlock()
		}},
		{"growth", func(int) {
			_, _ = m.Claim(ctx, Key{Name: nth(n + added)}, "", "host1")
			added++
		}},
		{"expiry", func(i int) { // of each segment the first time, of what grew then
			i %= shards
			if at[i] = m.sweepSegment(&m.shard[i], at[i], m.now()+1e6); at[i] == lastCursor {
				at[i] = 0
			}
		}},
	} {
		b.Run("step="+step.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var longest time.Duration
			over := 0
			for i := 0; b.Loop(); i++ {
				start := threadCPU()
				step.f(i)
				took := threadCPU() - start
				longest = max(longest, took)
				if took > 100*time.Microsecond {
					over++
				}
			}
			b.ReportMetric(float64(longest), "max-cpu-ns")
			b.ReportMetric(float64(over), "over-100us")
		})
	}
}

// BenchmarkPause measures, by the clock, how long a claim takes at most while
// something else goes on. beside=nothing is what the machine itself does to it.
func BenchmarkPause(b *testing.B) {
	const n = 1_000_000
	ctx := context.Background()
	m, some := filled(b, n), names(n)
	for _, beside := range []struct {
		name string
		f    func(i int)
	}{
		{"nothing", func(int) { time.Sleep(time.Millisecond) }},
		{"growth", func(i int) { _, _ = m.Claim(ctx, Key{Name: nth(n + i)}, "", "host1") }},
		{"each", func(int) { _ = m.Each(ctx, "", func(Assignment) bool { return true }) }},
		{"expiry", func(i int) {
			for at := cursor(0); at < lastCursor; {
				at = m.sweepSegment(&m.shard[i%shards], at, m.now()+uint32(i/shards))
			}
		}},
	} {
		b.Run("beside="+beside.name, func(b *testing.B) {
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; !stop.Load(); i++ {
					beside.f(i)
				}
			})
			var longest time.Duration
			over := 0
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if _, err := m.Claim(ctx, Key{Name: some[i%len(some)]}, "", "host7"); err != nil {
					b.Fatal(err)
				}
				took := time.Since(start)
				longest = max(longest, took)
				if took > time.Millisecond {
					over++
				}
			}
			stop.Store(true)
			wg.Wait()
			b.ReportMetric(float64(longest), "max-ns")
			b.ReportMetric(float64(over), "over-1ms")
		})
	}
}

// BenchmarkSnapshot writes 10 million assignments, and loads them, each once an
// iteration.
func BenchmarkSnapshot(b *testing.B) {
	const n = 10_000_000
	dir, ctx := b.TempDir(), context.Background()
	m := filled(b, n)
	s, err := OpenSnapshot(dir, m, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("op=take/users=1e7", func(b *testing.B) {
		for b.Loop() {
			size, err := s.take(ctx)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(size)/n, "B/user")
		}
	})
	if _, err := s.take(ctx); err != nil { // whichever of the two is run
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("op=load/users=1e7", func(b *testing.B) {
		b.ReportAllocs()
		before := cpu()
		for b.Loop() {
			m := newMemory(b, 2*n)
			s, err := OpenSnapshot(dir, m, zap.NewNop())
			if err != nil || m.Len() != n {
				b.Fatal(err, m.Len())
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	})
}
