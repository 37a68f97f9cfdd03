package shared

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
	"go.uber.org/zap"
)

// A Node is one that lives, or was there a moment ago.
type Node struct {
	Name  string
	About []byte // what its Describe returned
	Self  bool
}

// Nodes returns those that the last beat saw, by name. Read it only.
func (db *DB) Nodes() []Node { return *db.nodes.Load() }

// LastBeat is when these were seen.
func (db *DB) LastBeat() time.Time { return db.start.Add(time.Duration(db.beaten.Load())) }

// The keys of nodes and tables are in one slot of a Cluster.
const (
	idKey      = "{s}id"      // string: names the store's content, "-", and since when, ms since 1970
	seenKey    = "{s}seen"    // sorted set: node, when it is to be forgotten
	nodesKey   = "{s}nodes"   // hash: node, which process it is, a space, what it says of itself
	versionKey = "{s}version" // hash: table, its version
	channel    = "{s}changed"
)

// beatScript shows that a node lives, and returns the content's id, the clock,
// nodes and versions, and what stood for the node. KEYS: id, seen, nodes, version;
// ARGV: an id for an empty store, the node ("": none), what stands for it, its life
// in ms.
var beatScript = NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local id = redis.call('GET', KEYS[1])
if not id then
  id = ARGV[1] .. string.format('-%d', now)
  redis.call('SET', KEYS[1], id)
end
local before = redis.call('HGET', KEYS[3], ARGV[2]) or ''
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
end
for _, n in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('ZREM', KEYS[2], n)
  redis.call('HDEL', KEYS[3], n)
end
return {id, string.format('%d', now), redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4]), before}
`)

// beatOnce shows that this node lives and takes in what the store says; after an
// outage it has everything put right, and lets calls through.
func (db *DB) beatOnce(ctx context.Context) error {
	if err := db.connect(); err != nil {
		return err
	}
	ctx = context.WithValue(ctx, repairing{}, true)
	var about []byte
	if db.opt.Describe != nil {
		about = db.opt.Describe()
	}
	asked := time.Since(db.start)
	m, err := db.Eval(ctx, beatScript, Call{
		Keys: []string{db.Key(idKey), db.Key(seenKey), db.Key(nodesKey), db.Key(versionKey)},
		Args: []string{db.fresh, db.opt.Node, db.fresh + " " + string(about), strconv.FormatInt(nodeLife.Milliseconds(), 10)},
	})
	if err != nil {
		return err
	}
	parts, err := m.ToArray()
	if err != nil || len(parts) != 5 {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	id, _ := parts[0].ToString()
	clock, _ := parts[1].ToString()
	said, err1 := parts[2].AsStrMap()
	versions, err2 := parts[3].AsStrMap()
	now, err3 := strconv.ParseInt(clock, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	db.clock.Store(now - asked.Milliseconds())
	db.nodes.Store(nodesOf(said, db.opt.Node))
	db.namesake(parts[4])
	db.joins = db.id == "" && time.Duration(now-began(id))*time.Millisecond > settle
	if id != db.id {
		if db.id != "" {
			db.log.Warn("shared store", zap.String("state", "empty: its content is another one"))
		}
		db.id = id
		db.whole.Store(true)
	}
	for _, t := range db.tables {
		if err := t.follow(ctx, versions[t.name]); err != nil {
			return err
		}
	}
	if err := db.repair(ctx); err != nil {
		return err
	}
	db.beaten.Store(int64(asked))
	for _, f := range db.beats {
		f()
	}
	return nil
}

// began is since when the content of an id has been there, in ms since 1970; 0: for
// long.
func began(id string) int64 {
	_, text, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return ms
}

// repair ends an outage, if there was one: also one that no call noticed.
func (db *DB) repair(ctx context.Context) error {
	whole := db.whole.Swap(false)
	if db.here.Load() && !whole {
		return nil
	}
	start := time.Now()
	if whole && !db.joins {
		db.backAt.Store(int64(time.Since(db.start)))
	}
	for _, f := range db.back {
		if err := f(ctx, whole); err != nil {
			if whole {
				db.whole.Store(true)
			}
			return err
		}
	}
	if whole && !db.joins { // others may take as long
		db.backAt.Store(int64(time.Since(db.start)))
	}
	db.once.Do(func() { close(db.reached) })
	if !db.here.Swap(true) {
		db.log.Info("shared store", zap.String("state", "here"), zap.Bool("reconciled_all", whole), zap.Duration("took", time.Since(start)))
	}
	return nil
}

// namesake warns of another process that calls itself as this one does: before is what
// stood for the name, which was this one's at the beat before.
func (db *DB) namesake(before valkey.ValkeyMessage) {
	text, _ := before.ToString()
	process, _, _ := strings.Cut(text, " ")
	if process == "" || process == db.fresh || db.since(&db.beaten) > nodeLife || db.opt.Node == "" {
		return
	}
	if !db.doubled {
		db.log.Error("another usher has the name of this node; expected one of its own in the key node", zap.String("node", db.opt.Node))
	}
	db.doubled = true
}

func nodesOf(said map[string]string, self string) *[]Node {
	nodes := make([]Node, 0, len(said))
	for name, text := range said {
		_, about, _ := strings.Cut(text, " ")
		nodes = append(nodes, Node{Name: name, About: []byte(about), Self: name == self})
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return &nodes
}
