package affinity

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"
)

// kept is a folder with a snapshot of some users and a journal of as many more,
// each second of which was written on its own.
func kept(t *testing.T, users int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	p := open(t, dir)
	for i := range users {
		claim(t, p.m, Key{Name: nth(i)}, "", "a")
	}
	p.start()
	time.Sleep(time.Second)
	for i := range users {
		claim(t, p.m, Key{Name: nth(users + i)}, "", "b")
		time.Sleep(flushEvery)
	}
	p.kill()
	return dir
}

func only(t *testing.T, dir, kind string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, kind+"-*"))
	if err != nil || len(found) == 0 {
		t.Fatal("there is no", kind, folder(t, dir), err)
	}
	return found[len(found)-1]
}

// A journal that ends anywhere counts to its last whole block, and nobody is
// alarmed.
func TestSnapshot_TornJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := kept(t, 3)
		path := only(t, dir, "journal")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		was := 3
		for size := range len(raw) + 1 {
			os.WriteFile(path, raw[:size], 0o600)
			p := open(t, dir)
			n := p.m.Len()
			if n < was || n > was+1 {
				t.Errorf("%d of %d bytes: %d assignments, with a byte less %d", size, len(raw), n, was)
			}
			was = n
			if lines := append(p.said(zapcore.ErrorLevel), p.said(zapcore.WarnLevel)...); len(lines) > 0 {
				t.Fatalf("%d bytes: %q", size, lines)
			}
			if err := p.snap.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if was != 6 {
			t.Errorf("the whole file gives %d", was)
		}
	})
}

// A file with a wrong byte anywhere counts to there, and is set aside.
func TestSnapshot_Damaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := kept(t, 3)
		for _, kind := range []string{"journal", "snapshot"} {
			raw, err := os.ReadFile(only(t, good, kind))
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(raw); at += 7 {
				dir := copyFolder(t, good)
				path := only(t, dir, kind)
				bad := bytes.Clone(raw)
				bad[at] ^= 0x40
				os.WriteFile(path, bad, 0o600)
				p := open(t, dir)
				lines := p.said(zapcore.ErrorLevel)
				if len(lines) != 1 || !strings.Contains(lines[0], "damaged") {
					t.Fatalf("%s, byte %d: %q", kind, at, lines)
				}
				// The other file counts.
				other := map[string]string{"journal": nth(0), "snapshot": nth(5)}[kind]
				if look(t, p.m, Key{Name: other}) == "" {
					t.Fatalf("%s, byte %d: %s is gone", kind, at, other)
				}
				want := p.m.Len()
				p.start()
				time.Sleep(time.Second)
				p.end()
				aside := 0
				for _, name := range folder(t, dir) {
					if strings.HasPrefix(name, filepath.Base(path)+".damaged-") {
						aside++
					}
				}
				if aside != 1 {
					t.Fatalf("%s, byte %d: not set aside: %q", kind, at, folder(t, dir))
				}
				p = open(t, dir)
				if p.m.Len() != want || len(p.said(zapcore.ErrorLevel)) > 0 {
					t.Fatalf("%s, byte %d: next: %d of %d, %q", kind, at, p.m.Len(), want, p.said(zapcore.ErrorLevel))
				}
				if err := p.snap.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestSnapshot_Refused(t *testing.T) {
	valid := head{1, 1e12}.bytes()
	otherVersion := bytes.Clone(valid)
	otherVersion[8] = 9
	block := func(records ...[]byte) []byte {
		b := append(make([]byte, blockHead), bytes.Join(records, nil)...)
		sealBlock(b)
		return b
	}
	long := binary.AppendUvarint([]byte{opHost}, maxName+1)
	for name, tc := range map[string]struct {
		file []byte
		want string
	}{
		"of something else":  {[]byte(strings.Repeat("hello ", 20)), "no file of assignments"},
		"of another version": {otherVersion, "version 9"},
		"no end":             {valid, "ends in the middle"},
		"an end too much":    {slices.Concat(valid, block([]byte{opEnd, 0}), block([]byte{opEnd, 0})), "follows"},
		"a wrong count":      {slices.Concat(valid, block([]byte{opEnd, 7})), "doesn't fit"},
		"no such host":       {slices.Concat(valid, block([]byte{opNew, 0, 0, 1, 1, 'a'})), "a record"},
		"no such record":     {slices.Concat(valid, block([]byte{99})), "a record"},
		"a name too long":    {slices.Concat(valid, block(append(long, make([]byte, maxName+1)...))), "a record"},
		"a record cut off":   {slices.Concat(valid, block([]byte{opHost, 5, 'a'})), "a record"},
		"a block too long":   {slices.Concat(valid, binary.LittleEndian.AppendUint32(nil, 1<<31), make([]byte, 9)), "block of"},
		"an empty block":     {slices.Concat(valid, make([]byte, blockHead)), "block of 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			os.WriteFile(filepath.Join(dir, "snapshot-00000004"), tc.file, 0o600)
			p := open(t, dir)
			defer p.snap.Close()
			lines := p.logs.FilterLevelExact(zapcore.ErrorLevel).All()
			if len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()["error"]), tc.want) {
				t.Errorf("%v, want %q", lines, tc.want)
			}
		})
	}
}

// What is no file of ours is left alone.
func TestSnapshot_Strangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		names := []string{"README", "journal-1", "journal-00000000.damaged-x", "snapshot-", "snapshot-99999999999999999999999", "other-00000001"}
		for _, name := range names {
			os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600)
		}
		os.Mkdir(filepath.Join(dir, "journal-00000000"), 0o700)
		p := open(t, dir).start()
		time.Sleep(time.Second)
		p.end()
		got := folder(t, dir)
		for _, name := range append(names, "journal-00000000") {
			if !slices.Contains(got, name) {
				t.Errorf("%s is gone: %q", name, got)
			}
		}
		if lines := p.said(zapcore.ErrorLevel); len(lines) > 0 {
			t.Errorf("said: %q", lines)
		}
	})
}

// counting is a recordHandler that checks what it is told.
type counting struct {
	t           *testing.T
	hosts, tags uint32
	bytes       int
}

func (c *counting) name(names ...[]byte) {
	for _, n := range names {
		if c.bytes += len(n); len(n) > maxName {
			c.t.Errorf("a name of %d bytes", len(n))
		}
	}
}
func (c *counting) host(name string) { c.hosts++; c.name([]byte(name)) }
func (c *counting) tag(name string)  { c.tags++; c.name([]byte(name)) }
func (c *counting) put(_ bool, tag, host, _ uint32, name []byte) {
	if c.name(name); tag >= c.tags || host >= c.hosts {
		c.t.Errorf("tag %d of %d, host %d of %d", tag, c.tags, host, c.hosts)
	}
}
func (c *counting) drop(tag, _ uint32, name []byte) { c.user(tag, name, nil) }
func (c *counting) user(tag uint32, name, user []byte) {
	if c.name(name, user); tag >= c.tags {
		c.t.Errorf("tag %d of %d", tag, c.tags)
	}
}

func (c *counting) size(uint32) {}

// FuzzRecords reads a file of any bytes; checksums are put right, so that it gets
// beyond them. Nothing may come of it but what the file has.
func FuzzRecords(f *testing.F) {
	ctx := f.Context()
	m := newMemory(f, 10)
	for _, k := range []Key{{"", "alice"}, {"ssd", "bob"}} {
		claim(f, m, k, "", "host1")
		_ = m.Remember(ctx, k, "session")
	}
	path := filepath.Join(f.TempDir(), "snapshot")
	b, err := createBlocks(path, head{1, 1e12})
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(b.writeAll(ctx, m), b.block(appendDrop(make([]byte, blockHead), 1, 5, "bob")), b.close(false)); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[headLen:], true)
	f.Add(raw[headLen:], false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, raw []byte, right bool) {
		for b := raw; right && len(b) >= blockHead; {
			n := int(binary.LittleEndian.Uint32(b))
			if n > len(b)-blockHead {
				break
			}
			sealBlock(b[:blockHead+n])
			b = b[blockHead+n:]
		}
		c := &counting{t: t}
		_, at, err := readBlocks(bufio.NewReader(bytes.NewReader(raw)), c)
		if at < 0 || at > int64(len(raw)) || err == nil && at != int64(len(raw)) || c.bytes > len(raw) {
			t.Errorf("%v at %d of %d bytes, %d bytes of names", err, at, len(raw), c.bytes)
		}
		// The same into a store.
		r := &restore{m: newMemory(t, 10)}
		r.file(0, int64(len(raw)))
		_, _, again := readBlocks(bufio.NewReader(bytes.NewReader(raw)), r)
		if (err == nil) != (again == nil) {
			t.Errorf("%v, then %v", err, again)
		}
		dump(t, r.m)
	})
}
