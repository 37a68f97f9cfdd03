package luabridge

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"usher/luabridge/modules"
	"usher/proxy"
)

// Nauthilus' functions take a number for a text, as Lua's own do, and a text that
// is a number for one: the environment and Redis give texts.
func TestNumbersAndTexts(t *testing.T) {
	registry := prometheus.NewRegistry()
	v := ask(t, `
		nauthilus_builtin.status_message_set(403)
		nauthilus_builtin.custom_log_add(7, 1.5)
		local result = nauthilus_backend_result.new()
		result:account_field(12)
		assert(result:account_field() == "12")
		assert(nauthilus_password.generate_password_hash(1) == nauthilus_password.generate_password_hash("1"))
		nauthilus_prometheus.create_gauge_vec("load", "Load.", {})
		nauthilus_prometheus.set_gauge("load", "2.5", {})
		nauthilus_prometheus.add_gauge("load", " 1 ", {})
		for _, bad in ipairs({"", "x", "nan", "inf", "1 2", ("1"):rep(100)}) do assert(not pcall(nauthilus_prometheus.set_gauge, "load", bad, {}), bad) end`,
		query("alice"), func(o *Options) { o.Deps.Prom = modules.NewPrometheus(registry) })
	if v.Text != "403" {
		t.Errorf("text %q", v.Text)
	}
	if diff := cmp.Diff([]proxy.Attr{{Name: "7", Value: "1.5"}}, v.Logs); diff != "" {
		t.Error(diff)
	}
	got, err := registry.Gather()
	if err != nil || len(got) != 1 || got[0].GetMetric()[0].GetGauge().GetValue() != 3.5 {
		t.Error(got, err)
	}
}

// Numbers and tables are logged as JSON, and secrets in them are starred: those
// that JSON would write otherwise, and those that are numbers.
func TestLogging_SecretsInTables(t *testing.T) {
	for _, password := range []string{`quote"d\`, "4711471147"} {
		logs, to := logTo(zap.DebugLevel)
		q := query("alice")
		q.Request.Password = proxy.NewSecret(password)
		ask(t, `local pw = request.password
			assert(pw ~= "")
			nauthilus_util.log_info({list = {pw, tonumber(pw) or 1, [3] = "<" .. pw .. ">"}, map = {[pw] = pw}, number = tonumber(pw) or 1})`, q, to,
			func(o *Options) { o.Filters[0].NeedsPassword = true })
		quoted := strconv.Quote(password)
		if text := logText(logs); strings.Contains(text, quoted[1:len(quoted)-1]) || strings.Contains(text, password) || strings.Count(text, "********") < 4 {
			t.Error(text)
		}
	}
}
