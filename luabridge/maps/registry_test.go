package maps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a new file in a file's place, as careful writers do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, m *Map, key string) string {
	t.Helper()
	hit, ok := m.Table().Get(key)
	if !ok {
		return "-"
	}
	return string(hit.Value())
}

// running is a Registry that polls, in a bubble's time.
func running(t *testing.T) (*Registry, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r := New(zap.New(core))
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return r, logs
}

func lines(logs *observer.ObservedLogs) string {
	var all []string
	for _, e := range logs.TakeAll() {
		text := e.Message
		if err, ok := e.ContextMap()["error"]; ok {
			text += " " + fmt.Sprint(err)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users.map")
	write(t, path, "alice one\n")
	synctest.Test(t, func(t *testing.T) {
		r, logs := running(t)
		m, err := r.Open(t.Context(), dir, "users.map")
		if err != nil {
			t.Fatal(err)
		}
		same, err := r.Open(t.Context(), dir, "./users.map")
		if err != nil || same != m {
			t.Errorf("the same file by another name: %p and %p, %v", m, same, err)
		}
		for _, step := range []struct {
			name       string
			do         func()
			alice, log string
		}{
			{"nothing", func() {}, "one", ""},
			{"written in place", func() { write(t, path, "alice two, longer\n") }, "two, longer", "map: read anew"},
			{"replaced", func() { replace(t, path, "alice three\n") }, "three", "map: read anew"},
			{"broken", func() { replace(t, path, "alice four\n10.0.0.1/8 x\n") }, "three", "map: cannot be read " + path + ":2: 10.0.0.1/8 is no network: expected 10.0.0.0/8"},
			{"still broken", func() {}, "three", ""},
			{"broken otherwise", func() { replace(t, path, "@ x\n") }, "three", "map: cannot be read " + path + ":1: expected a domain after @"},
			{"good again", func() { replace(t, path, "alice five\nalice six\n") }, "five", "map: good again; map: keys that are there twice; the first line counts"},
			{"gone", func() { os.Remove(path) }, "five", "map: cannot be read stat " + path + ": no such file or directory"},
			{"still gone", func() {}, "five", ""},
			{"there again", func() { replace(t, path, "alice seven\n") }, "seven", "map: good again"},
			{"a folder", func() { os.Remove(path); os.Mkdir(path, 0o700) }, "seven", "map: cannot be read " + path + ": not a regular file"},
			{"a file again", func() { os.Remove(path); replace(t, path, "alice eight\n") }, "eight", "map: good again"},
		} {
			step.do()
			time.Sleep(2*Interval + Interval/2)
			synctest.Wait()
			if got := get(t, m, "alice"); got != step.alice {
				t.Errorf("%s: alice is %q, want %q", step.name, got, step.alice)
			}
			if got := lines(logs); got != step.log {
				t.Errorf("%s: logged\n     %s\nwant %s", step.name, got, step.log)
			}
		}
	})
}

// A file that is being written is not read before it keeps still.
func TestReload_Writing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users.map")
	write(t, path, "alice one\n")
	synctest.Test(t, func(t *testing.T) {
		r, _ := running(t)
		m, err := r.Open(t.Context(), dir, "users.map")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			write(t, path, strings.Repeat("# half\n", i+1))
			time.Sleep(Interval)
			synctest.Wait()
			if got := get(t, m, "alice"); got != "one" {
				t.Errorf("after %d s of writing: %q", i+1, got)
			}
		}
	})
}

func TestOpen_Faults(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "broken.map"), "ok\n@ x\n")
	r := New(zap.NewNop())
	for name, want := range map[string]string{
		"":                        "the file's name is empty",
		"../x":                    `the file's name "../x" has a part .. in it`,
		"a/../../x":               `the file's name "a/../../x" has a part .. in it`,
		"a\x00b":                  "the file's name has a control byte 0x00",
		"a\nb":                    "the file's name has a control byte 0x0a",
		strings.Repeat("x", 2000): "the file's name has 2000 bytes, at most 1024",
		"missing.map":             "stat " + dir + "/missing.map: no such file or directory",
		"broken.map":              dir + "/broken.map:2: expected a domain after @",
		".":                       dir + ": not a regular file",
		"/dev/zero":               "/dev/zero: not a regular file",
	} {
		for range 2 { // the second time from memory
			if _, err := r.Open(t.Context(), dir, name); err == nil || err.Error() != want {
				t.Errorf("%.20q\n got %v\nwant %s", name, err, want)
			}
		}
	}
	// Repaired, it is good at once: a reload of the configuration shall find it.
	replace(t, filepath.Join(dir, "broken.map"), "ok\n")
	if _, err := r.Open(t.Context(), dir, "broken.map"); err != nil {
		t.Error(err)
	}
	for i := range MaxMaps + 10 {
		name := fmt.Sprintf("m%d", i)
		write(t, filepath.Join(dir, name), "x y\n")
		if _, err := r.Open(t.Context(), dir, name); err != nil {
			if i < MaxMaps-4 || !strings.Contains(err.Error(), "1000 maps are in use") {
				t.Fatalf("map %d: %v", i, err)
			}
		} else if i >= MaxMaps {
			t.Fatalf("map %d was taken", i)
		}
		if _, err := r.Open(t.Context(), dir, strings.Repeat("./", i%300)+"ok.map"); err == nil {
			t.Fatal("a file that is not there")
		}
	}
	if len(r.paths) != MaxMaps {
		t.Errorf("%d maps", len(r.paths))
	}
}

// Whoever asks first does not wait longer than he has time; the next one finds it.
func TestOpen_Deadline(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "users.map"), strings.Repeat("alice one\n", 200_000))
	r := New(zap.NewNop())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.Open(ctx, dir, "users.map")
	var loading *Loading
	if !errors.As(err, &loading) {
		t.Fatalf("got %v, want a *Loading", err)
	}
	<-loading.Done
	m, err := r.Open(ctx, dir, "users.map")
	if err != nil || get(t, m, "alice") != "one" {
		t.Errorf("then: %v", err)
	}
}

// Many ask at once for a file that nobody read yet.
func TestOpen_Concurrent(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "users.map"), "alice one\n")
	r := New(zap.NewNop())
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			m, err := r.Open(t.Context(), dir, "users.map")
			if err != nil {
				t.Error(err)
				return
			}
			if _, ok := m.Table().Get("alice"); !ok {
				t.Error("not found")
			}
		})
	}
	all.Wait()
}

func TestGiven(t *testing.T) {
	r, err := Given(map[string]string{"users.map": "alice one\n"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Open(t.Context(), "/etc", "users.map")
	if err != nil || get(t, m, "alice") != "one" {
		t.Errorf("%v", err)
	}
	if _, err := r.Open(t.Context(), "/etc", "passwd"); err == nil || err.Error() != `no map "passwd" is given` {
		t.Errorf("a file that is not given: %v", err)
	}
	if _, err := Given(map[string]string{"users.map": "@ x"}); err == nil || err.Error() != "users.map:1: expected a domain after @" {
		t.Errorf("a broken one: %v", err)
	}
}
