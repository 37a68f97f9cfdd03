package luabridge

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inFilter makes a filter of a function's body. Bodies that return nothing
// accept. The body begins on line 1.
func inFilter(body string) string {
	return "function nauthilus_call_filter(request) " + body + "\nend"
}

// ask runs a filter's body for one request.
func ask(t testing.TB, body string, q *proxy.Query, change ...func(*Options)) proxy.Verdict {
	t.Helper()
	return direct(t, newDirector(t, inFilter(body), change...), q)
}

// askFault runs a filter's body, which must fail, and returns its fault.
func askFault(t testing.TB, d *Director, q *proxy.Query) *proxy.PolicyFault {
	t.Helper()
	v, err := d.Direct(context.Background(), q)
	var fault *proxy.PolicyFault
	if !errors.As(err, &fault) {
		t.Fatalf("got %+v and error %v, want a PolicyFault", v, err)
	}
	return fault
}

// luaError returns the error that a Lua statement raises, without its position.
func luaError(t testing.TB, statement string, change ...func(*Options)) string {
	t.Helper()
	v := ask(t, `local ok, err = pcall(function() `+statement+` end)
		nauthilus_builtin.custom_log_add("err", ok and "none" or tostring(err))`, query("alice"), change...)
	return ownPosition.ReplaceAllString(v.Logs[0].Value, "")
}

var ownPosition = regexp.MustCompile(`^test\.lua:\d+: `)

// logTo lets a Director log to an observer.
func logTo(level zapcore.Level) (*observer.ObservedLogs, func(*Options)) {
	core, logs := observer.New(level)
	return logs, func(o *Options) { o.Deps.Log = zap.New(core) }
}

// logText is all that was logged, fields and all.
func logText(logs *observer.ObservedLogs) string {
	var b strings.Builder
	enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	for _, e := range logs.All() {
		buf, err := enc.EncodeEntry(e.Entry, e.Context)
		if err != nil {
			panic(err)
		}
		b.Write(buf.Bytes())
	}
	return b.String()
}
