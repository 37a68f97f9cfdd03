package modules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
	"unicode"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
	"usher/proxy/passdb"
)

// passwordModule is nauthilus_password.
var passwordModule = Module{
	Name: "nauthilus_password", Global: true,
	Doc: "Compares passwords and looks at them. A filter or feature sees the password only with `needs_password: true`.",
	Funcs: []Func{
		{Name: "compare_passwords", Do: comparePasswords,
			Sig:     `(hash: string, password: string) -> equal: boolean, err: string?`,
			Doc:     "Whether a password is the one of a hash: `{SSHA256}`, `{SSHA512}` (also `.B64`, `.HEX`), and the other schemes of the password driver `passwd_file`; without a scheme crypt's `$1$`, `$5$`, `$6$`, `$2y$`, `$argon2id$`. A hash that can't be read is false, and a text; so is what is longer than 4096 bytes, of slow hashes a password of over 1024. Where too many wait for slow hashes it raises an error: the login is told to try later.",
			Example: "local password = require(\"nauthilus_password\")\nprint(password.compare_passwords(\"{SHA256}A5BYxvLAy0ksUzsKTRTvd8wPeKvMztUofYShogEcoeE=\", \"b\")) --> false\tnil"},
		{Name: "check_password_policy", Do: checkPasswordPolicy,
			Sig:     `(policy: {min_length?: integer, min_upper?: integer, min_lower?: integer, min_number?: integer, min_special?: integer}, password: string) -> good: boolean`,
			Doc:     "Whether a password has as many characters of each kind, and in all as many bytes, as the policy wants.",
			Example: "local password = require(\"nauthilus_password\")\nprint(password.check_password_policy({min_length = 8, min_number = 1}, \"abc\")) --> false"},
		{Name: "generate_password_hash", Do: passwordHash,
			Sig:     `(password: string) -> hash: string`,
			Doc:     "Eight hex digits of a hash: enough to see in a log or in Redis whether two passwords are the same, too few to find one. The hash is another after a restart.",
			Example: "local password = require(\"nauthilus_password\")\nprint(#password.generate_password_hash(\"a\")) --> 8"},
	},
}

// maxCompare is how long a comparison waits for its turn.
const maxCompare = 10 * time.Second

// maxHashed is the longest password and hash that are compared, in bytes: crypt
// hashes the password anew each round, and nothing can stop it.
const maxHashed = 4096

// comparePasswords never shows a hash in an error.
func comparePasswords(L *lua.LState) int {
	hash, plain := checkText(L, 1, "compare_passwords"), checkText(L, 2, "compare_passwords")
	if len(hash) > maxHashed || len(plain) > maxHashed {
		L.Push(lua.LFalse)
		L.Push(lua.LString("a password or hash of over 4096 bytes"))
		return 2
	}
	c := CallOf(L)
	ctx, cancel := c.deadline(maxCompare)
	defer cancel()
	take(L, 1000, 4096)
	equal, err := passdb.Compare(ctx, c.Workers, hash, plain)
	if errors.Is(err, proxy.ErrOverload) {
		// Nobody knows: a script that looks at the first result alone would say that
		// the password is wrong.
		L.RaiseError("compare_passwords: %s", err)
	}
	L.Push(lua.LBool(equal))
	if err != nil {
		L.Push(lua.LString(err.Error()))
		return 2
	}
	L.Push(lua.LNil)
	return 2
}

func checkPasswordPolicy(L *lua.LState) int {
	policy, ok := L.Get(1).(*lua.LTable)
	if !ok {
		argError(L, 1, "check_password_policy", "table")
	}
	password := checkText(L, 2, "check_password_policy")
	take(L, len(password), 0)
	length, upper, lower, numbers, special := len(password), 0, 0, 0, 0
	for _, r := range password {
		switch {
		case unicode.IsUpper(r):
			upper++
		case unicode.IsLower(r):
			lower++
		case unicode.IsDigit(r):
			numbers++
		case unicode.IsPunct(r), unicode.IsSymbol(r):
			special++
		}
	}
	good := true
	for name, has := range map[string]int{"min_length": length, "min_upper": upper, "min_lower": lower, "min_number": numbers, "min_special": special} {
		switch want := policy.RawGetString(name).(type) {
		case lua.LNumber:
			good = good && lua.LNumber(has) >= want
		case *lua.LNilType:
		default:
			L.RaiseError("bad argument #1 to check_password_policy (its %s is a %s; number expected)", name, want.Type())
		}
	}
	L.Push(lua.LBool(good))
	return 1
}

func passwordHash(L *lua.LState) int {
	password := checkText(L, 1, "generate_password_hash")
	c := CallOf(L)
	take(L, 20+len(password)/8, 128)
	sum := sha256.New()
	sum.Write(c.Nonce)
	sum.Write([]byte{0})
	sum.Write([]byte(password))
	L.Push(lua.LString(hex.EncodeToString(sum.Sum(nil)[:4])))
	return 1
}
