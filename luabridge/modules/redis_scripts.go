package modules

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis' names of scripts
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"
	lua "github.com/yuin/gopher-lua"
)

// maxRedisScript is the longest script in bytes.
const maxRedisScript = 256 << 10

// redisUpload loads a script into all servers. It is remembered all the same when
// that fails, so that a server which comes back has it.
func redisUpload(L *lua.LState) int {
	source, name := checkText(L, 2, "redis_upload_script"), L.OptString(3, "")
	if len(source) > maxRedisScript || len(name) > maxKey {
		return fail(L, fmt.Errorf("redis_upload_script: a script of %d bytes, at most %d", len(source), maxRedisScript))
	}
	c := CallOf(L)
	err := c.redis(L, func() string { return "SCRIPT LOAD " + name }, func(ctx context.Context, client valkey.Client) error {
		var faults []error
		for _, node := range client.Nodes() {
			faults = append(faults, node.Do(ctx, node.B().ScriptLoad().Script(source).Build()).Error())
		}
		return errors.Join(faults...)
	})
	if name != "" && c.Redis != nil && !c.Query.DryRun {
		if full := c.Redis.keep(strings.Clone(name), strings.Clone(source)); err == nil {
			err = full
		}
	}
	if err != nil {
		return fail(L, err)
	}
	L.Push(lua.LString(sha1Hex(source)))
	L.Push(lua.LNil)
	return 2
}

func sha1Hex(s string) string {
	sum := sha1.Sum([]byte(s)) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

// A redisScript is a script with its keys and arguments. Its source is run by its
// hash first.
type redisScript struct {
	name   string
	source string
	rest   []string // number of keys, keys, arguments
}

// scriptOf reads source, name, keys and arguments.
func (c *Call) scriptOf(a redisArgs) (s redisScript, err error) {
	if s.source, err = a.text(0); err != nil {
		return s, err
	}
	if a.at(1) != lua.LNil {
		if s.name, err = a.text(1); err != nil {
			return s, err
		}
	}
	if s.name != "" {
		known := false
		if c.Redis != nil {
			s.source, known = c.Redis.script(s.name)
		}
		if !known && c.Query.DryRun { // an init script would have uploaded it
			c.Offline = true
			return s, errOffline
		}
		if !known {
			return s, fmt.Errorf("could not find script with name %s", c.Shown(s.name, 64))
		}
	}
	var keys []string
	if a.options(2) == nil {
		return s, errors.New("the keys are no table")
	}
	if keys, err = (redisArgs{a.L, a.list[2:3]}).all(); err != nil {
		return s, err
	}
	args, err := (redisArgs{a.L, a.list[min(3, len(a.list)):]}).all()
	s.rest = append(append([]string{strconv.Itoa(len(keys))}, keys...), args...)
	return s, err
}

// all is rest, which may be nothing.
func (a redisArgs) all() ([]string, error) {
	words, err := a.rest(0)
	if len(words) == 0 {
		return nil, nil
	}
	return words, err
}

// redisRun runs a script.
func redisRun(L *lua.LState) int {
	a := redisArgs{L: L}
	for i := 2; i <= L.GetTop(); i++ {
		a.list = append(a.list, L.Get(i))
	}
	c := CallOf(L)
	s, err := c.scriptOf(a)
	if err == nil {
		err = a.pay(append(s.rest, s.source))
	}
	if err != nil {
		return fail(L, err)
	}
	var v lua.LValue
	err = c.redis(L, func() string { return "script " + s.name + shownReply(v) }, func(ctx context.Context, client valkey.Client) error {
		m, err := client.Do(ctx, s.byHash(client)).ToMessage()
		if noScript(err) {
			m, err = client.Do(ctx, s.bySource(client)).ToMessage()
		}
		if err == nil {
			v, err = replyAny(a, nil, m)
		}
		return err
	})
	if err != nil {
		return fail(L, err)
	}
	L.Push(v)
	L.Push(lua.LNil)
	return 2
}

func (s *redisScript) byHash(client valkey.Client) valkey.Completed {
	w := append([]string{"EVALSHA", sha1Hex(s.source)}, s.rest...)
	return completed(client, w, keyAt(w))
}

func (s *redisScript) bySource(client valkey.Client) valkey.Completed {
	w := append([]string{"EVAL", s.source}, s.rest...)
	return completed(client, w, keyAt(w))
}

// noScript reports whether the server has lost the script.
func noScript(err error) bool {
	e, ok := valkey.IsValkeyErr(err)
	return ok && e.IsNoScript()
}
