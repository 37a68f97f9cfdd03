package modules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
)

// Bounds of what scripts may make: metrics, and label values of one. Beyond them
// nothing is counted: a label that holds a user's name would fill the memory.
const (
	maxMetrics     = 200
	maxSeries      = 1000
	maxMetricLabel = 128 // bytes of a label's value
	maxMetricName  = 200
	maxHelp        = 1024
)

// Prometheus has the metrics that scripts made: one a process, which reloads
// leave alone.
type Prometheus struct {
	registry prometheus.Registerer

	mu     sync.Mutex
	vecs   map[string]*metric
	warned map[string]bool // what was complained of once
}

type metric struct {
	kind    string
	labels  []string
	counter *prometheus.CounterVec
	gauge   *prometheus.GaugeVec
	observe prometheus.ObserverVec

	mu     sync.Mutex
	series map[string]bool
}

// NewPrometheus makes an empty one, whose metrics appear in r.
func NewPrometheus(r prometheus.Registerer) *Prometheus {
	return &Prometheus{registry: r, vecs: map[string]*metric{}, warned: map[string]bool{}}
}

var luaBuckets = prometheus.ExponentialBuckets(0.001, 1.75, 15)

// create makes a metric, or finds one of the same kind and labels.
func (p *Prometheus) create(kind, name, help string, labels []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.vecs[name]; m != nil {
		if m.kind != kind || !slices.Equal(m.labels, labels) {
			return fmt.Errorf("metric %q is there already, a %s with other labels or of another kind; a change needs a restart of usher", name, m.kind)
		}
		return nil
	}
	if len(p.vecs) >= maxMetrics {
		return fmt.Errorf("there are %d metrics of scripts, at most", maxMetrics)
	}
	for other, m := range p.vecs {
		if collide(kind, name, other) || collide(m.kind, other, name) {
			return fmt.Errorf("metric %q would have a name in common with the %s %q", name, m.kind, other)
		}
	}
	m := &metric{kind: kind, labels: labels, series: map[string]bool{}}
	var c prometheus.Collector
	switch kind {
	case "counter":
		m.counter = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		c = m.counter
	case "gauge":
		m.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		c = m.gauge
	case "histogram":
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: luaBuckets}, labels)
		m.observe, c = v, v
	default:
		v := prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: name, Help: help}, labels)
		m.observe, c = v, v
	}
	if err := p.registry.Register(c); err != nil {
		return fmt.Errorf("metric %q: %w", name, err)
	}
	p.vecs[name] = m
	return nil
}

// collide reports whether other is one of the names that a metric of that kind
// appears under. One such pair, and nobody could read any metric.
func collide(kind, name, other string) bool {
	suffix, ok := strings.CutPrefix(other, name)
	switch {
	case !ok:
		return false
	case suffix == "_bucket":
		return kind == "histogram"
	case suffix == "_count", suffix == "_sum":
		return kind == "histogram" || kind == "summary"
	}
	return false
}

func (p *Prometheus) find(kind, name string) *metric {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.vecs[name]; m != nil && m.kind == kind {
		return m
	}
	return nil
}

// once reports whether this complaint is a new one.
func (p *Prometheus) once(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.warned[what] || len(p.warned) >= maxMetrics {
		return false
	}
	p.warned[strings.Clone(what)] = true
	return true
}

// room reports whether the metric may have these label values.
func (m *metric) room(values []string) bool {
	// Values may hold any byte: each stands with its length, so that no two sets
	// of them share a key.
	var b strings.Builder
	for _, v := range values {
		b.WriteString(strconv.Itoa(len(v)))
		b.WriteByte(':')
		b.WriteString(v)
	}
	key := b.String()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.series[key] {
		return true
	}
	if len(m.series) >= maxSeries {
		return false
	}
	m.series[key] = true
	return true
}

const timerType = "nauthilus_prometheus_timer"

type timer struct {
	began    time.Time
	observer prometheus.Observer // nil: a dry run
}

// prometheusModule is nauthilus_prometheus.
var prometheusModule = Module{
	Name: "nauthilus_prometheus", Global: true,
	Doc: "Metrics of the script's own, at `/metrics` beside usher's. They stay over reloads. Make them in an init script. 200 metrics at most, each with 1000 different label values: what is beyond is not counted. Names that begin with `usher_`, `go_`, `process_` or `promhttp_` are usher's.",
	Funcs: []Func{
		createMetric("counter"), createMetric("gauge"), createMetric("histogram"), createMetric("summary"),
		countMetric("increment_counter", "counter", "Adds one to a counter.", func(m *metric, values []string) { m.counter.WithLabelValues(values...).Inc() }),
		countMetric("touch_counter", "counter", "Makes a counter appear, with the value 0.", func(m *metric, values []string) { m.counter.WithLabelValues(values...) }),
		countMetric("increment_gauge", "gauge", "Adds one to a gauge.", func(m *metric, values []string) { m.gauge.WithLabelValues(values...).Inc() }),
		countMetric("decrement_gauge", "gauge", "Takes one from a gauge.", func(m *metric, values []string) { m.gauge.WithLabelValues(values...).Dec() }),
		gaugeMetric("add_gauge", "Adds a number to a gauge.", prometheus.Gauge.Add),
		gaugeMetric("sub_gauge", "Takes a number from a gauge.", prometheus.Gauge.Sub),
		gaugeMetric("set_gauge", "Sets a gauge.", prometheus.Gauge.Set),
		startTimer("histogram"), startTimer("summary"),
		{Name: "stop_timer", Do: stopTimer,
			Sig: `(timer: userdata?)`, Doc: "Adds the seconds since the timer's start to its histogram or summary. nil does nothing.",
			Example: "local prometheus = require(\"nauthilus_prometheus\")\nprometheus.create_histogram_vec(\"site_seconds\", \"How long it took.\", {\"site\"})\nlocal timer = prometheus.start_histogram_timer(\"site_seconds\", {site = \"north\"})\nprometheus.stop_timer(timer)\nprint(\"stopped\") --> stopped"},
	},
	Types: []Type{{Name: timerType, Doc: "A timer that runs."}},
}

func promExample(kind, call string) string {
	return "local prometheus = require(\"nauthilus_prometheus\")\nprometheus.create_" + kind + "_vec(\"site_" + kind + "\", \"Logins by site.\", {\"site\"})\n" + call + "\nprint(\"done\") --> done"
}

func createMetric(kind string) Func {
	name := "create_" + kind + "_vec"
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			metricName := checkText(L, 1, name)
			help := checkText(L, 2, name)
			var labels []string
			if t, ok := L.Get(3).(*lua.LTable); ok {
				each(L, t, func(_, v lua.LValue) { labels = append(labels, v.String()) })
			} else if L.Get(3) != lua.LNil {
				argError(L, 3, name, "table of label names")
			}
			c := CallOf(L)
			err := validMetric(kind, metricName, labels)
			if len(help) > maxHelp {
				err = fmt.Errorf("a help text of %d bytes, at most %d", len(help), maxHelp)
			}
			if err == nil && !c.Query.DryRun && c.Prom != nil {
				take(L, 500, 4096)
				err = c.Prom.create(kind, strings.Clone(metricName), strings.Clone(c.Redact(help)), labels)
			}
			if err != nil {
				L.RaiseError("%s: %s", name, c.Shown(err.Error(), 200))
			}
			return 0
		},
		Sig:     `(name: string, help: string, labels?: string[])`,
		Doc:     "Makes a " + kind + " with these label names. One that is there already, with the same labels, stays. The help has 1024 bytes at most.",
		Example: promExample(kind, "prometheus.create_"+kind+"_vec(\"site_"+kind+"\", \"Logins by site.\", {\"site\"})"),
	}
}

// validMetric checks names as Prometheus has them.
func validMetric(kind, name string, labels []string) error {
	isName := func(s string) bool {
		return s != "" && len(s) <= maxMetricName && !strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
		}) && (s[0] < '0' || s[0] > '9')
	}
	switch {
	case !isName(name):
		return fmt.Errorf("bad name %.64q; expected letters, digits and underscores", name)
	case strings.HasPrefix(name, "usher_"):
		return errors.New("names that begin with usher_ are usher's own")
	case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"), strings.HasPrefix(name, "promhttp_"):
		return errors.New("names that begin with go_, process_ or promhttp_ are those of the program's own metrics")
	case kind == "histogram" && slices.Contains(labels, "le"):
		return errors.New("a histogram has a label le of its own")
	case kind == "summary" && slices.Contains(labels, "quantile"):
		return errors.New("a summary has a label quantile of its own")
	case len(labels) > 16:
		return errors.New("over 16 labels")
	}
	for i, l := range labels {
		if !isName(l) || strings.HasPrefix(l, "__") || slices.Contains(labels[:i], l) {
			return fmt.Errorf("bad label %.64q; expected letters, digits and underscores, each once", l)
		}
	}
	return nil
}

// checkText is an argument that must be a string.
func checkText(L *lua.LState, n int, function string) string {
	s, ok := textOf(L.Get(n))
	if !ok {
		argError(L, n, function, "string")
	}
	take(L, 1+len(s)/64, len(s))
	return string(s)
}

// metricOf finds a metric and the values of its labels, which are the function's
// argument n. nil: there is nothing to count.
func metricOf(L *lua.LState, function, kind string, n int) (*metric, []string) {
	name, c := checkText(L, 1, function), CallOf(L)
	given, _ := L.Get(n).(*lua.LTable)
	if given == nil && L.Get(n) != lua.LNil {
		argError(L, n, function, "table of label values")
	}
	if c.Query.DryRun || c.Prom == nil {
		return nil, nil
	}
	take(L, 50, 256)
	m := c.Prom.find(kind, name)
	if m == nil {
		if c.Prom.once(kind + " " + clip(name, maxMetricName)) {
			c.LogLine(zap.WarnLevel, zap.String("text", fmt.Sprintf("%s: there is no %s %q; make it in an init script", function, kind, c.Shown(name, 64))))
		}
		return nil, nil
	}
	values := make([]string, len(m.labels))
	set := make([]bool, len(m.labels)) // a list and names may mean the same label
	left := 0
	if given != nil {
		each(L, given, func(k, v lua.LValue) {
			i := -1
			switch k := k.(type) {
			case lua.LString:
				i = slices.Index(m.labels, string(k))
			case lua.LNumber: // a list, in the order of the labels
				if n := int(k); lua.LNumber(n) == k && n >= 1 && n <= len(m.labels) {
					i = n - 1
				}
			}
			if i < 0 {
				L.RaiseError("%s: %q is no label of %s; expected %s", function, c.Shown(k.String(), 64), name, strings.Join(m.labels, ", "))
			}
			if set[i] {
				L.RaiseError("%s: label %s of %s is given twice", function, m.labels[i], name)
			}
			set[i] = true
			values[i] = strings.ToValidUTF8(strings.Clone(c.Shown(v.String(), maxMetricLabel)), "?")
			left++
		})
	}
	if left != len(m.labels) {
		L.RaiseError("%s: %d labels of %s are given; expected %s", function, left, name, strings.Join(m.labels, ", "))
	}
	if !m.room(values) {
		if c.Prom.once("series of " + name) {
			c.LogLine(zap.WarnLevel, zap.String("text", fmt.Sprintf("metric %s: over %d different label values, the others are not counted", name, maxSeries)))
		}
		return nil, nil
	}
	return m, values
}

func countMetric(name, kind, doc string, do func(*metric, []string)) Func {
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			if m, values := metricOf(L, name, kind, 2); m != nil {
				do(m, values)
			}
			return 0
		},
		Sig: `(name: string, labels?: table<string, string>)`, Doc: doc + " All its labels must be given.",
		Example: promExample(kind, "prometheus."+name+"(\"site_"+kind+"\", {site = \"north\"})"),
	}
}

func gaugeMetric(name, doc string, do func(prometheus.Gauge, float64)) Func {
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			n, ok := numberOf(L.Get(2))
			if !ok {
				argError(L, 2, name, "number")
			}
			if m, values := metricOf(L, name, "gauge", 3); m != nil && !math.IsNaN(float64(n)) {
				do(m.gauge.WithLabelValues(values...), float64(n))
			}
			return 0
		},
		Sig: `(name: string, n: number, labels?: table<string, string>)`, Doc: doc + " All its labels must be given.",
		Example: promExample("gauge", "prometheus."+name+"(\"site_gauge\", 3, {site = \"north\"})"),
	}
}

func startTimer(kind string) Func {
	name := "start_" + kind + "_timer"
	return Func{
		Name: name,
		Do: func(L *lua.LState) int {
			m, values := metricOf(L, name, kind, 2)
			if m == nil {
				if CallOf(L).Query.DryRun {
					L.Push(&lua.LUserData{Value: &timer{}, Metatable: lua.LNil})
					return 1
				}
				L.Push(lua.LNil)
				return 1
			}
			L.Push(&lua.LUserData{Value: &timer{time.Now(), m.observe.WithLabelValues(values...)}, Metatable: lua.LNil})
			return 1
		},
		Sig:     `(name: string, labels?: table<string, string>) -> timer: userdata?`,
		Doc:     "Starts a timer for a " + kind + "; nil if there is no such metric.",
		Example: promExample(kind, "local timer = prometheus."+name+"(\"site_"+kind+"\", {site = \"north\"})\nprometheus.stop_timer(timer)"),
	}
}

func stopTimer(L *lua.LState) int {
	switch v := L.Get(1).(type) {
	case *lua.LNilType:
	case *lua.LUserData:
		t, ok := v.Value.(*timer)
		if !ok {
			argError(L, 1, "stop_timer", "timer")
		}
		if t.observer != nil {
			t.observer.Observe(time.Since(t.began).Seconds())
		}
	default:
		argError(L, 1, "stop_timer", "timer")
	}
	return 0
}
