package affinity

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/internal/shared"
)

const (
	// workGap is what a claim or a refresh waits to be written with others.
	workGap = 20 * time.Millisecond
	// workBatch is how many go in one go.
	workBatch = 200
	// maxWork bounds what waits to be written.
	maxWork = 100_000
	// countEvery is how old Len and Assigned may be.
	countEvery = 5 * time.Second
)

// touch has a claim written a moment later. It reports false when too many wait.
func (v *Valkey) touch(key Key, host string) bool {
	v.mu.Lock()
	_, there := v.touches[key]
	ok := there || len(v.touches) < maxWork
	if ok {
		v.touches[key] = host
	}
	v.mu.Unlock()
	v.poke()
	return ok
}

// told is called with each key that somebody has changed. It is read again, so that the
// copy is right when the store goes away.
func (v *Valkey) told(key string) {
	_, name, ok := strings.Cut(key, "}")
	if !ok {
		return
	}
	v.near.tell(name)
	v.reread(name)
}

func (v *Valkey) reread(name string) {
	v.mu.Lock()
	if _, there := v.rereads[name]; there || len(v.rereads) < maxWork {
		v.rereads[name]++
	} else {
		v.near.full.Store(true)
	}
	v.mu.Unlock()
	v.poke()
}

// wrote takes in what this node has written.
func (v *Valkey) wrote(key Key, host string, expires int64, told, gen uint64) {
	if v.near.wrote(key, host, expires, told, gen) {
		v.reread(key.Name)
	}
}

func (v *Valkey) poke() {
	select {
	case v.work <- struct{}{}:
	default: // Run has yet to look
	}
}

// Run does the store's background work until ctx ends: it writes claims and
// refreshes, reads what others changed, counts, and forgets what has expired.
func (v *Valkey) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { v.tidy(ctx) })
	all.Go(func() { v.mirror(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.work:
		}
		select {
		case <-ctx.Done():
		case <-time.After(workGap):
		}
		v.write(ctx)
	}
}

// write does what has gathered.
func (v *Valkey) write(ctx context.Context) {
	v.mu.Lock()
	touches, refreshes, rereads := v.touches, v.refreshes, maps.Clone(v.rereads)
	v.touches, v.refreshes = map[Key]string{}, map[string]struct{}{}
	v.mu.Unlock()
	life := strconv.FormatInt(v.life(), 10)
	for keys := range slices.Chunk(slices.Collect(maps.Keys(touches)), workBatch) {
		calls := make([]shared.Call, len(keys))
		for i, k := range keys {
			v.near.expect(k.Name)
			calls[i] = v.call(k.Name, k.Tag, touches[k], life)
		}
		if _, err := v.db.EvalAll(ctx, touchScript, calls); err != nil {
			for _, k := range keys {
				v.near.prolong(k.Name, touches[k], v.near.now()+v.life())
			}
		}
	}
	for names := range slices.Chunk(slices.Collect(maps.Keys(refreshes)), workBatch) {
		calls := make([]shared.Call, len(names))
		for i, name := range names {
			v.near.expect(name)
			calls[i] = v.call(name, life)
		}
		if _, err := v.db.EvalAll(ctx, refreshScript, calls); err != nil {
			for _, name := range names {
				v.near.prolong(name, "", v.near.now()+v.life())
			}
		}
	}
	for names := range slices.Chunk(slices.Collect(maps.Keys(rereads)), workBatch) {
		if _, err := v.lookAll(ctx, names); err != nil {
			return // they stay in doubt
		}
		v.mu.Lock()
		for _, name := range names {
			if v.rereads[name] == rereads[name] {
				delete(v.rereads, name)
			}
		}
		v.mu.Unlock()
	}
}

// warmUp asks for the copy, if it was not made.
func (v *Valkey) warmUp() {
	if v.copy.Load() {
		return
	}
	select {
	case v.warm <- struct{}{}:
	default: // it is asked for
	}
}

// mirror makes the copy when it has to be made, until ctx ends.
func (v *Valkey) mirror(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.warm:
		}
		began := time.Now()
		whole, err := v.copyAll(ctx)
		switch {
		case err == nil && whole:
			v.copy.Store(true)
			v.log.Info("assignments copied", zap.Int64("now", v.near.len.Load()), zap.Duration("took", time.Since(began)))
		case err == nil: // a connection broke; the next beat asks again
		case !errors.Is(err, ErrAway) && ctx.Err() == nil:
			v.log.Error("assignments can't be copied", zap.Error(err))
		}
	}
}

// copyAll reads all assignments. It reports false where changes may have been missed
// meanwhile.
func (v *Valkey) copyAll(ctx context.Context) (whole bool, err error) {
	gen := v.db.Generation()
	v.near.full.Store(false)
	for b := range buckets {
		bucket := "{" + strconv.Itoa(b) + "}"
		hosts, err := v.hostsOf(ctx, bucket)
		if err != nil {
			return false, err
		}
		for _, host := range hosts {
			for cursor := uint64(0); ; {
				tolds, now, asked := v.near.tolds(), v.db.Now(), v.near.now()
				page, err := v.scan(ctx, bucket, host, cursor)
				if err != nil {
					return false, err
				}
				for _, m := range members(page.Elements, host) {
					if m.at > now && !v.near.learn(m.Assignment, asked+m.at-now, &tolds, gen) {
						v.reread(m.Key.Name)
					}
				}
				if cursor = page.Cursor; cursor == 0 {
					break
				}
			}
		}
	}
	return v.db.Generation() == gen, nil
}

// tidy counts, and sweeps what the node knows: each shard once a minute.
func (v *Valkey) tidy(ctx context.Context) {
	sweep := time.NewTicker(time.Minute / shards)
	defer sweep.Stop()
	count := time.NewTicker(countEvery)
	defer count.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			v.near.sweep(i)
			i = (i + 1) % shards
		case <-count.C:
			if err := v.count(ctx); err != nil && !errors.Is(err, ErrAway) && ctx.Err() == nil {
				v.log.Error("assignments can't be counted", zap.Error(err))
			}
		}
	}
}

// count asks how many assignments each host has.
func (v *Valkey) count(ctx context.Context) error {
	counts := map[string]int{}
	for b := range buckets {
		bucket := "{" + strconv.Itoa(b) + "}"
		m, err := v.db.Eval(ctx, countScript, shared.Call{Keys: []string{v.db.Key("h:" + bucket), v.db.Key("n:" + bucket)}, Args: []string{v.db.Deadline()}})
		if err != nil {
			return err
		}
		said, err := m.AsStrMap()
		if err != nil {
			return errStrange
		}
		for host, text := range said {
			n, err := strconv.Atoi(text)
			if err != nil {
				return errStrange
			}
			counts[host] += n
		}
	}
	v.counts.Store(&counts)
	return nil
}

// reconcile tells the store that came back what the node knows: what was claimed
// meanwhile, and all where the store may have lost it. Does it know better, the node
// follows.
func (v *Valkey) reconcile(ctx context.Context, whole bool) error {
	told, lost := 0, 0
	if whole {
		v.copy.Store(false)
	}
	for i := range shards {
		keys, list := v.near.snapshot(i, whole)
		for len(keys) > 0 {
			n := min(len(keys), workBatch)
			gone, err := v.restore(ctx, keys[:n], list[:n])
			if err != nil {
				return err
			}
			told, lost = told+n, lost+gone
			keys, list = keys[n:], list[n:]
		}
	}
	if err := v.remindAll(ctx, whole); err != nil {
		return err
	}
	v.poke() // what could not be read
	if told > 0 {
		v.log.Info("assignments reconciled", zap.Int("told", told), zap.Int("lost", lost))
	}
	return nil
}

// remindAll tells the store the aliases that it was not told, or may have lost.
func (v *Valkey) remindAll(ctx context.Context, whole bool) error {
	var all []alias
	v.remembered.Range(func(a, m any) bool {
		if m := m.(memo); m.until > v.near.now() && (whole || !m.told) {
			all = append(all, a.(alias))
		}
		return true
	})
	for part := range slices.Chunk(all, workBatch) {
		calls := make([]shared.Call, len(part))
		for i, a := range part {
			calls[i] = v.remind(a)
		}
		if _, err := v.db.EvalAll(ctx, rememberScript, calls); err != nil {
			return err
		}
		for _, a := range part {
			if m, ok := v.remembered.Load(a); ok {
				v.remembered.Store(a, memo{m.(memo).until, true})
			}
		}
	}
	return nil
}

// restore tells the store some assignments, and returns how many were on another
// host there.
func (v *Valkey) restore(ctx context.Context, keys []string, list []known) (gone int, err error) {
	gen, asked := v.db.Generation(), v.near.now()
	calls := make([]shared.Call, len(keys))
	at, tells := make([]Key, len(keys)), make([]uint64, len(keys))
	for i, text := range keys {
		name, tag, _ := strings.Cut(text, "\x00")
		at[i], tells[i] = Key{tag, name}, v.near.told(name)
		v.near.expect(name)
		calls[i] = v.call(name, tag, v.near.hosts.name(list[i].host), strconv.FormatInt(max(list[i].expires-asked, 1), 10))
	}
	answers, err := v.db.EvalAll(ctx, restoreScript, calls)
	if err != nil {
		return 0, err
	}
	for i, m := range answers {
		host, left, err := hostAndLife(m)
		if err != nil {
			return gone, err
		}
		if mine := v.near.hosts.name(list[i].host); host != mine {
			gone++
			v.log.Warn("the shared store has the user on another host, which stands",
				zap.String("key", at[i].Name), zap.String("tag", at[i].Tag), zap.String("host", host), zap.String("not", mine))
		}
		v.wrote(at[i], host, asked+left, tells[i], gen)
	}
	return gone, nil
}
