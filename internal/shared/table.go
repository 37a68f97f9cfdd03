package shared

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
	version version
	rows    map[string]string
}

// A version names one content of a table. Text has it as "N-TAG"; "" is the first.
type version struct {
	n   int64  // changes so far; -1: not read yet
	tag string // of the last change: after a failover another one may have the same n
}

func parseVersion(text string) (version, error) {
	if text == "" {
		return version{}, nil
	}
	number, tag, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n < 1 {
		return version{}, fmt.Errorf("%w: version %.80q", ErrAway, text)
	}
	return version{n, tag}, nil
}

// String is the text that parseVersion reads.
func (v version) String() string {
	if v == (version{}) {
		return ""
	}
	return strconv.FormatInt(v.n, 10) + "-" + v.tag
}

// next is the version after a change.
func (v version) next() version { return version{v.n + 1, rand.Text()} }

// Table makes a table known. Call it before Run, once for each name.
func (db *DB) Table(name string) *Table {
	t := &Table{db: db, name: name, watchers: map[*func()]bool{}}
	t.copy.Store(&tableCopy{version: version{n: -1}})
	db.tables = append(db.tables, t)
	return t
}

// Rows returns the rows as this node knows them, without waiting. Read it only. ok
// false: they were never read.
func (t *Table) Rows() (rows map[string]string, ok bool) {
	c := t.copy.Load()
	return c.rows, c.version.n >= 0
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

// updateScript changes rows if the table still has a version. KEYS: table, versions;
// ARGV: deadline, name, version expected, next version, channel, the rows in JSON,
// then of each row field, 1 or 0 for deleted, value. It returns 1, or 0 where the
// table has another version.
var updateScript = NewScript(Late + `
if (redis.call('HGET', KEYS[2], ARGV[2]) or '') ~= ARGV[3] then return 0 end
for i = 7, #ARGV, 3 do
  if ARGV[i + 1] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
`)

// readScript returns version and rows. KEYS: table, versions; ARGV: name.
var readScript = NewScript(`
return {redis.call('HGET', KEYS[2], ARGV[1]) or '', redis.call('HGETALL', KEYS[1])}
`)

// restoreScript puts a table back that the store lost. KEYS: table, versions; ARGV:
// name, version, its number, then field and value of each row.
var restoreScript = NewScript(`
local v = redis.call('HGET', KEYS[2], ARGV[1]) or '0-'
if tonumber(string.match(v, '^%d+')) >= tonumber(ARGV[3]) then return 0 end
redis.call('DEL', KEYS[1])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
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
		if c.version.n < 0 {
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

// An announcement tells all nodes of a change.
type announcement struct {
	Table string `json:"t"`
	From  string `json:"from"` // version
	To    string `json:"to"`
	Rows  []Row  `json:"rows"`
}

// unsaid is the From of an announcement whose rows JSON can't say: who hears it reads
// the table.
const unsaid = "?"

func sayable(rows []Row) bool {
	return !slices.ContainsFunc(rows, func(r Row) bool {
		return !utf8.ValidString(r.Field) || r.Value != nil && !utf8.ValidString(*r.Value)
	})
}

func (t *Table) send(ctx context.Context, from version, rows []Row) (done bool, err error) {
	to := from.next()
	news := announcement{t.name, from.String(), to.String(), rows}
	if !sayable(rows) {
		news.From, news.Rows = unsaid, nil
	}
	text, err := json.Marshal(news)
	if err != nil {
		return false, err
	}
	args := []string{t.db.Deadline(), t.name, from.String(), to.String(), t.db.Key(channel), string(text)}
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
	if n, err := m.AsInt64(); err != nil || n == 0 {
		return false, err
	}
	if !t.apply(from, to, rows) {
		return true, t.read(ctx)
	}
	return true, nil
}

// apply makes the changes from one version to the next. It reports false where the
// copy has neither.
func (t *Table) apply(from, to version, rows []Row) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.copy.Load()
	switch c.version {
	case to:
		return true
	case from:
	default:
		return false
	}
	next := &tableCopy{to, maps.Clone(c.rows)}
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
	text, err1 := parts[0].ToString()
	rows, err2 := parts[1].AsStrMap()
	v, err3 := parseVersion(text)
	if err1 != nil || err2 != nil || err3 != nil {
		return fmt.Errorf("%w: a strange answer", ErrAway)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.copy.Load(); v.n > c.version.n || v.n == c.version.n && v.tag != c.version.tag {
		t.set(&tableCopy{v, rows})
	}
	return nil
}

// follow looks at the version that the store has: another one is read, an older one
// says that the store lost the table, which is put back.
func (t *Table) follow(ctx context.Context, text string) error {
	v, err := parseVersion(text)
	if err != nil {
		return err
	}
	c := t.copy.Load()
	switch {
	case v.n < c.version.n:
		args := []string{t.name, c.version.String(), strconv.FormatInt(c.version.n, 10)}
		for f, v := range c.rows {
			args = append(args, f, v)
		}
		t.db.log.Warn("the shared store had lost a table, which is put back", zap.String("table", t.name), zap.Int("rows", len(c.rows)))
		_, err := t.db.Eval(ctx, restoreScript, Call{t.keys(), args})
		return err
	case v != c.version:
		return t.read(ctx)
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

// announced takes one announcement in. What it does not fit is left to the beat.
func (db *DB) announced(text string) {
	var a announcement
	if json.Unmarshal([]byte(text), &a) != nil {
		return
	}
	from, err1 := parseVersion(a.From)
	to, err2 := parseVersion(a.To)
	for _, t := range db.tables {
		if t.name == a.Table && (err1 != nil || err2 != nil || !t.apply(from, to, a.Rows)) {
			db.alarm()
		}
	}
}
