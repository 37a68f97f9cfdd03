package modules

import (
	"crypto/md5" //nolint:gosec // Nauthilus' tags, no secret
	"encoding/hex"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// keysModule is nauthilus_keys.
var keysModule = Module{
	Name: "nauthilus_keys", Global: true,
	Doc: "Names of Redis keys as Nauthilus' scripts build them.",
	Funcs: []Func{{
		Name: "account_tag", Do: accountTag,
		Sig:     `(user: string) -> tag: string`,
		Doc:     "`{acm-MD5}`, which keeps all keys of a user in one slot of a Redis Cluster; `\"\"` for `\"\"`, or where the environment variable USE_KEY_HASHTAGS is false. KEY_HASHTAG_PREFIX stands for `acm-`. `director.env` must name both.",
		Example: "local keys = require(\"nauthilus_keys\")\nprint(keys.account_tag(\"alice\")) --> {acm-6384e2b2184bcbf58eccf10ca7a6563c}",
	}},
}

func accountTag(L *lua.LState) int {
	user := ""
	switch v := L.Get(1).(type) {
	case lua.LString:
		user = string(v)
	case lua.LNumber:
		user = number(v)
	case *lua.LNilType:
	default:
		argError(L, 1, "account_tag", "string")
	}
	c := CallOf(L)
	env := func(name, otherwise string) string {
		if v, set := c.LookupEnv(name); set {
			return v
		}
		return otherwise
	}
	take(L, 10+len(user)/8, 64)
	tag := ""
	switch strings.ToLower(env("USE_KEY_HASHTAGS", "true")) {
	case "0", "false":
	default:
		if user != "" {
			sum := md5.Sum([]byte(user)) //nolint:gosec // see above
			tag = "{" + env("KEY_HASHTAG_PREFIX", "acm-") + hex.EncodeToString(sum[:]) + "}"
		}
	}
	L.Push(lua.LString(tag))
	return 1
}
