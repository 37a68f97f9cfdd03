package control

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/proxy"
)

// Metrics counts what usher does. It implements proxy.Recorder and the
// monitor's Observer. No label ever holds a user, a client's address or free
// text.
type Metrics struct {
	registry    *prometheus.Registry
	decisions   *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	policy      prometheus.Histogram
	faults      *prometheus.CounterVec
	steps       prometheus.Histogram
	failing     *prometheus.GaugeVec
	network     *prometheus.HistogramVec
	up          *prometheus.GaugeVec
	check       *prometheus.HistogramVec
	transitions *prometheus.CounterVec
	panics      *prometheus.GaugeVec
	rates       rates
	last        decisions

	mu        sync.Mutex
	inventory map[[2]string]bool // protocol, backend
	protocols map[string]bool    // of inventory
	policies  map[string]bool
}

// Gauges are asked when the metrics are read.
type Gauges struct {
	Assignments func() int
	StoreUp     func() bool // nil: no store is shared
}

// NewMetrics makes the metrics of a process of that version.
func NewMetrics(version string, g Gauges) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_decisions_total", Help: "Decisions, by what came out and why.",
		}, []string{"adapter", "protocol", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_decision_seconds", Help: "Time from a complete request to its decision.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10),
		}, []string{"adapter"}),
		policy: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "usher_policy_seconds", Help: "Time that the policy took.",
			Buckets: prometheus.ExponentialBuckets(2e-6, 4, 11),
		}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_policy_errors_total", Help: "Policy runs that failed, by kind.",
		}, []string{"kind"}),
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "usher_policy_steps", Help: "Steps that the policy took of director.steps, by request.",
			Buckets: prometheus.ExponentialBuckets(50, 4, 9),
		}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_policy_failing", Help: "1: the policy failed on more than half of its last hundred requests.",
		}, []string{"policy"}),
		network: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_policy_network_seconds", Help: "Time that a network call of a policy took, by module.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 4, 9),
		}, []string{"module"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_backend_up", Help: "1: up; 0: down, checking or stale.",
		}, []string{"protocol", "backend"}),
		check: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_backend_check_seconds", Help: "Time that a health check took.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 4, 9),
		}, []string{"protocol", "backend"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_backend_transitions_total", Help: "Changes of a backend's health.",
		}, []string{"protocol", "backend"}),
		panics: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "usher_backend_panic", Help: "1: too many backends of the protocol fell at once, the last good set is kept.",
		}, []string{"protocol"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "usher_build_info", Help: "Always 1; the label tells the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.decisions, m.seconds, m.policy, m.faults, m.steps, m.failing, m.network, m.up, m.check, m.transitions, m.panics, info,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_assignments", Help: "Assignments of users to hosts that are kept.",
		}, func() float64 { return float64(g.Assignments()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if g.StoreUp != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_store_up", Help: "1: the shared store answers; 0: it is away.",
		}, func() float64 {
			if g.StoreUp() {
				return 1
			}
			return 0
		}))
	}
	for _, kind := range []string{"error", "budget", "timeout", "result"} {
		m.faults.WithLabelValues(kind)
	}
	return m
}

// Handler serves the metrics in Prometheus' formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Decided implements proxy.Recorder.
func (m *Metrics) Decided(r *proxy.Request, d *proxy.Decision) {
	m.decisions.WithLabelValues(r.Adapter, protocolLabel(r.Protocol), d.Outcome.String(), string(d.Reason)).Inc()
	m.seconds.WithLabelValues(r.Adapter).Observe(d.Took.Seconds())
	if d.Outcome == proxy.Routed && d.Entry != nil {
		m.rates.count(d.Entry.Server)
	}
	m.last.add(r, d)
}

// KeepDecisions keeps the last n decisions for Decisions; 0: none.
func (m *Metrics) KeepDecisions(n int) { m.last.resize(n) }

// Decisions returns those that are kept with that id, or of that user, the newest
// first, at most most of them. What is "" is not looked at.
func (m *Metrics) Decisions(id, user string, most int) []DecisionRecord {
	return m.last.find(id, user, most)
}

// Rate returns the decisions per second for a backend, over the last ten seconds.
func (m *Metrics) Rate(s *proxy.Server) float64 { return m.rates.of(s) }

// protocolLabel keeps what a client made up out of the labels.
func protocolLabel(protocol string) string {
	switch protocol {
	case "imap", "pop3", "smtp", "lmtp", "sieve", "http", "doveadm":
		return protocol
	}
	return "other"
}

// PolicyRan implements proxy.Recorder.
func (m *Metrics) PolicyRan(took time.Duration, failed bool, err error) {
	m.policy.Observe(took.Seconds())
	if failed {
		m.faults.WithLabelValues("result").Inc()
	}
	if err == nil {
		return
	}
	kind := "error"
	if f := (*proxy.PolicyFault)(nil); errors.As(err, &f) {
		switch f.Kind {
		case proxy.PolicyBudget:
			kind = "budget"
		case proxy.PolicyTimeout:
			kind = "timeout"
		}
	}
	m.faults.WithLabelValues(kind).Inc()
}

// PolicySteps implements luabridge.Observer.
func (m *Metrics) PolicySteps(steps int) { m.steps.Observe(float64(steps)) }

// Registerer takes metrics of others, which then appear among these.
func (m *Metrics) Registerer() prometheus.Registerer { return m.registry }

// PolicyNetwork implements modules.Meter.
func (m *Metrics) PolicyNetwork(module string, took time.Duration) {
	m.network.WithLabelValues(module).Observe(took.Seconds())
}

// PolicyFailing implements luabridge.Observer.
func (m *Metrics) PolicyFailing(policy string, failing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.policies[policy] { // else a request of before the last reload
		v := 0.0
		if failing {
			v = 1
		}
		m.failing.WithLabelValues(policy).Set(v)
	}
}

// SetPolicies makes the policies of a new configuration known, none of them
// failing, and forgets those that are gone.
func (m *Metrics) SetPolicies(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing.Reset()
	m.policies = map[string]bool{}
	for _, name := range names {
		m.policies[name] = true
		m.failing.WithLabelValues(name).Set(0)
	}
}

// CheckDone implements monitor.Observer. What a backend does that is none any more
// is not counted, or its series would stay for ever.
func (m *Metrics) CheckDone(s *proxy.Server, took time.Duration, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.inventory[seriesOf(s)] {
		return
	}
	m.check.WithLabelValues(s.Protocol, s.Address()).Observe(took.Seconds())
}

// Transition implements monitor.Observer.
func (m *Metrics) Transition(s *proxy.Server, _, to proxy.Health) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.inventory[seriesOf(s)] {
		return
	}
	m.transitions.WithLabelValues(s.Protocol, s.Address()).Inc()
	m.setUp(s, to)
}

func seriesOf(s *proxy.Server) [2]string { return [2]string{s.Protocol, s.Address()} }

// Panic implements monitor.Observer.
func (m *Metrics) Panic(protocol string, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.protocols[protocol] {
		m.setPanic(protocol, on)
	}
}

func (m *Metrics) setPanic(protocol string, on bool) {
	v := 0.0
	if on {
		v = 1
	}
	m.panics.WithLabelValues(protocol).Set(v)
}

func (m *Metrics) setUp(s *proxy.Server, h proxy.Health) {
	v := 0.0
	if h == proxy.Up {
		v = 1
	}
	m.up.WithLabelValues(s.Protocol, s.Address()).Set(v)
}

// An Inventory is what a monitor shows at one moment.
type Inventory struct {
	Entries []proxy.Entry
	Panics  []string // protocols whose last good set is kept
}

// SetInventory makes the backends of a new configuration known, and forgets
// those that are gone. now, which must not block, says what they are, and whether
// they still are; what the monitor tells meanwhile comes after it.
func (m *Metrics) SetInventory(now func() (inv Inventory, stands bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inv, stands := now()
	if !stands {
		return
	}
	known, protocols := map[[2]string]bool{}, map[string]bool{}
	for i := range inv.Entries {
		s := inv.Entries[i].Server
		known[seriesOf(s)], protocols[s.Protocol] = true, true
	}
	for k := range m.inventory {
		if !known[k] {
			m.up.DeleteLabelValues(k[0], k[1])
			m.check.DeleteLabelValues(k[0], k[1])
			m.transitions.DeleteLabelValues(k[0], k[1])
		}
	}
	for p := range m.protocols {
		if !protocols[p] {
			m.panics.DeleteLabelValues(p)
		}
	}
	m.inventory, m.protocols = known, protocols
	m.rates.set(inv.Entries)
	for i := range inv.Entries {
		m.setUp(inv.Entries[i].Server, inv.Entries[i].Health)
	}
	for p := range protocols {
		m.setPanic(p, slices.Contains(inv.Panics, p))
	}
}
