package shared

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
	"go.uber.org/zap"
)

// A Table is a small set of rows that every node has a copy of, a moment old. A
// change is in the store before it counts anywhere, and is announced; who missed the
// announcement reads the table at his next beat. What a store lost the nodes bring
// back: the copy of the highest version wins.
type Table struct {
	db   *DB
	name string
	copy atomic.Pointer[tableCopy]

	mu       sync.Mutex // of who changes copy
	watchers map[*func()]bool
}

// A tableCopy is immutable.
type tableCopy struct {
	version int64 // 0: never changed; -1: not read yet
	rows    map[string]string
}

// Table makes a table known. Call it before Run, once for each name.
func (db *DB) Table(name string) *Table {
	t := &Table{db: db, name: name, watchers: map[*func()]bool{}}
	t.copy.Store(&tableCopy{version: -1})
	db.tables = append(db.tables, t)
	return t
}

// Rows returns the rows as this node knows them, without waiting. Read it only. ok
// false: they were never read.
func (t *Table) Rows() (rows map[string]string, ok bool) {
	c := t.copy.Load()
	return c.rows, c.version >= 0
}

// Watch has f called after each change, whoever made it, until stop. f must not
// wait, and not change the table.
func (t *Table) Watch(f func()) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers[&f] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, &f)
	}
}

// A Row is a changed one; a nil Value deletes it.
type Row struct {
	Field string  `json:"f"`
	Value *string `json:"v"`
}

// Late is the beginning of a script whose ARGV[1] is DB.Deadline: now is then the
// store's clock.
const Late = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE the store was away meanwhile') end
`

// updateScript changes rows if the table still has a version. KEYS: table, version;
// ARGV: deadline, name, expected version, channel, the rows in JSON, then of each row
// field, 1 or 0 for deleted, value. It returns the version that stands, and 1 or 0.
var updateScript = NewScript(Late + `
local v = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0')
if v ~= tonumber(ARGV[3]) then return {v, 0} end
for i = 6, #ARGV, 3 do
  if ARGV[i + 1] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
v = v + 1
redis.call('HSET', KEYS[2], ARGV[2], string.format('%d', v))
redis.call('PUBLISH', ARGV[4], string.format('%d', v) .. ' ' .. ARGV[2] .. ' ' .. ARGV[5])
return {v, 1}
`)

// readScript returns version and rows. KEYS: table, version; ARGV: name.
var readScript = NewScript(`
return {tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0'), redis.call('HGETALL', KEYS[1])}
`)

// restoreScript puts a table back that the store lost. KEYS: table, version; ARGV:
// name, version, channel, then field and value of each row.
var restoreScript = NewScript(`
local v = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if v >= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[2] .. ' ' .. ARGV[1] .. ' null')
return 1
`)

func (t *Table) keys() []string { return []string{t.db.Key("{s}" + t.name), t.db.Key(versionKey)} }

// updateTries is how often a change is made anew because another came in between.
const updateTries = 20

// Update has change say what is to be changed in rows, which it must only read, and
// does it in the store. change may be called again. No rows: nothing is done. An
// error means that nothing was changed, or that it is not known.
func (t *Table) Update(ctx context.Context, change func(rows map[string]string) ([]Row, error)) error {
	for range updateTries {
		c := t.copy.Load()
		if c.version < 0 {
			return ErrAway
		}
		rows, err := change(c.rows)
		if err != nil || len(rows) == 0 {
			return err
		}
		done, err := t.send(ctx, c.version, rows)
		if err != nil || done {
			return err
		}
		if err := t.read(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: too many changes at a time; try again", t.name)
}

func (t *Table) send(ctx context.Context, version int64, rows []Row) (done bool, err error) {
	text, err := json.Marshal(rows)
	if err != nil {
		return false, err
	}
	args := []string{t.db.Deadline(), t.name, strconv.FormatInt(version, 10), t.db.Key(channel), string(text)}
	for _, r := range rows {
		if r.Value != nil {
			args = append(args, r.Field, "1", *r.Value)
		} else {
			args = append(args, r.Field, "0", "")
		}
	}
	m, err := t.db.Eval(ctx, updateScript, Call{t.keys(), args})
	if err != nil {
		return false, err
	}
	ans, err := m.AsIntSlice()
	if err != nil || len(ans) != 2 {
		return false, fmt.Errorf("%w: a strange answer", ErrAway)
	}
	if ans[1] == 0 {
		return false, nil
	}
	if !t.apply(ans[0], rows) {
		return true, t.read(ctx)
	}
	return true, nil
}

// apply makes changes that lead to version. It reports false where others are
// missing before.
func (t *Table) apply(version int64, rows []Row) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.copy.Load()
	switch {
	case c.version >= version:
		return true
	case c.version != version-1:
		return false
	}
	next := &tableCopy{version, maps.Clone(c.rows)}
	if next.rows == nil {
		next.rows = map[string]string{}
	}
	for _, r := range rows {
		if r.Value != nil {
			next.rows[r.Field] = *r.Value
		} else {
			delete(next.rows, r.Field)
		}
	}
	t.set(next)
	return true
}

// set makes the copy. The caller holds t.mu.
func (t *Table) set(c *tableCopy) {
	t.copy.Store(c)
	for f := range t.watchers {
		(*f)()
	}
}

// read takes the whole table in.
func (t *Table) read(ctx context.Context) error {
	m, err := t.db.Eval(ctx, readScript, Call{t.keys(), []string{t.name}})
	if err != nil {
		return err
	}
	parts, err := m.ToArray()
	if err != nil || len(parts) != 2 {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	version, err1 := parts[0].AsInt64()
	rows, err2 := parts[1].AsStrMap()
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if version > t.copy.Load().version {
		t.set(&tableCopy{version, rows})
	}
	return nil
}

// follow looks at the version that the store has: what is newer is read, what is
// older was lost there and is put back.
func (t *Table) follow(ctx context.Context, text string) error {
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil && text != "" {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	c := t.copy.Load()
	switch {
	case version > c.version:
		return t.read(ctx)
	case version < c.version:
		args := []string{t.name, strconv.FormatInt(c.version, 10), t.db.Key(channel)}
		for f, v := range c.rows {
			args = append(args, f, v)
		}
		t.db.log.Warn("the shared store had lost a table, which is put back", zap.String("table", t.name), zap.Int("rows", len(c.rows)))
		_, err := t.db.Eval(ctx, restoreScript, Call{t.keys(), args})
		return err
	}
	return nil
}

// listen takes announcements in until ctx ends. What is missed meanwhile the next
// beat finds.
func (db *DB) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if client := db.client.Load(); client != nil {
			cmd := (*client).B().Subscribe().Channel(db.Key(channel)).Build()
			_ = (*client).Receive(ctx, cmd, func(m valkey.PubSubMessage) { db.announced(m.Message) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(beat / 2):
		}
	}
}

// announced takes one announcement in: VERSION TABLE ROWS.
func (db *DB) announced(text string) {
	number, rest, _ := strings.Cut(text, " ")
	name, body, ok := strings.Cut(rest, " ")
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok {
		return
	}
	for _, t := range db.tables {
		if t.name != name {
			continue
		}
		var rows []Row
		if json.Unmarshal([]byte(body), &rows) != nil || rows == nil || !t.apply(version, rows) {
			db.alarm() // the beat reads it
		}
	}
}
