package monitor

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"

	"usher/proxy"
)

const (
	// maxRecords bounds what one SRV name can make of the inventory. A message of
	// DNS has place for fewer than this, unless its names are very short.
	maxRecords = 2000
	// maxShown bounds the records that a log line names.
	maxShown = 5
)

// A record is an SRV record that a backend can be made of.
type record struct {
	priority int
	host     string // as proxy.CanonicalHost returns it
	port     int
	weight   int
}

// String is as in a zone file.
func (r record) String() string {
	return fmt.Sprintf("%d %d %d %s", r.priority, r.weight, r.port, r.host)
}

// usable returns the records that backends can be made of, in an order that says
// nothing of the answer's: by priority, host and port, and of those that differ in
// weight alone the heaviest. dropped says what the others are.
func usable(answer []*net.SRV) (records []record, dropped []string) {
	for _, r := range answer {
		if r == nil {
			continue
		}
		rec := record{int(r.Priority), proxy.CanonicalHost(r.Target), int(r.Port), int(r.Weight)}
		if !proxy.ValidHost(r.Target) || r.Port == 0 {
			rec.host = r.Target
			dropped = append(dropped, rec.String())
			continue
		}
		records = append(records, rec)
	}
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port), cmp.Compare(b.weight, a.weight))
	})
	records = slices.CompactFunc(records, func(a, b record) bool {
		return a.priority == b.priority && a.host == b.host && a.port == b.port
	})
	if n := len(records); n > maxRecords {
		records = records[:maxRecords:maxRecords]
		dropped = append(dropped, fmt.Sprintf("%d more than %d", n-maxRecords, maxRecords))
	}
	slices.Sort(dropped)
	return records, dropped
}

// weights are those of the backends of sorted records, in an entry of weight w.
// Those of one priority share it as the records say (RFC 2782), the heaviest having
// w; weight 0 is a very small chance, not none.
func weights(records []record, w int) []int {
	out := make([]int, len(records))
	for begin := 0; begin < len(records); {
		end, heaviest, equal := begin, 0, true
		for ; end < len(records) && records[end].priority == records[begin].priority; end++ {
			heaviest = max(heaviest, records[end].weight)
			equal = equal && records[end].weight == records[begin].weight
		}
		for i := begin; i < end; i++ {
			switch {
			case w == 0:
			case equal:
				out[i] = w
			default:
				out[i] = max(1, int(math.Round(float64(w)*float64(records[i].weight)/float64(heaviest))))
			}
		}
		begin = end
	}
	return out
}

// An expansion is an inventory whose templates have become backends. The next one
// takes those over that stay as they are.
type expansion struct {
	servers []*proxy.Server
	made    map[origin]*proxy.Server
}

// An origin is all that a backend was made of.
type origin struct {
	template *proxy.Server
	host     string
	port     int
	weight   int
	priority int
	tags     *proxy.Server // whose tags it has
}

// expand puts the backends of each template in its place. All entries of a host
// are one machine, so weight and tags are those of the first, entries with host
// and port before all others; of the same protocol, host and port the first
// stands, in that order too.
func expand(inventory []*proxy.Server, recordsOf func(srv string) []record, old expansion) expansion {
	type endpoint struct {
		protocol, host string
		port           int
	}
	taken := map[endpoint]bool{}
	machines := map[string]origin{} // weight and tags are set
	for _, s := range inventory {
		if isTemplate(s) {
			continue
		}
		host := proxy.CanonicalHost(s.Host)
		taken[endpoint{s.Protocol, host, s.Port}] = true
		if _, known := machines[host]; !known {
			machines[host] = origin{weight: s.Weight, tags: s}
		}
	}
	next := expansion{servers: make([]*proxy.Server, 0, len(inventory)), made: map[origin]*proxy.Server{}}
	for _, template := range inventory {
		if !isTemplate(template) {
			next.servers = append(next.servers, template)
			continue
		}
		records := recordsOf(template.SRV)
		share := weights(records, template.Weight)
		for i, r := range records {
			end := endpoint{template.Protocol, r.host, r.port}
			if taken[end] {
				continue
			}
			taken[end] = true
			m, known := machines[r.host]
			if !known {
				m = origin{weight: share[i], tags: template}
				machines[r.host] = m
			}
			m.template, m.host, m.port, m.priority = template, r.host, r.port, r.priority
			s := old.made[m]
			if s == nil {
				backend := *template
				backend.Host, backend.Port, backend.Priority = m.host, m.port, m.priority
				backend.Weight, backend.Tags = m.weight, m.tags.Tags
				s = &backend
			}
			next.made[m] = s
			next.servers = append(next.servers, s)
		}
	}
	return next
}

// without returns the records that are not among others, as text.
func without(records, others []record) []string {
	known := make(map[record]bool, len(others))
	for _, r := range others {
		known[r] = true
	}
	var out []string
	for _, r := range records {
		if !known[r] {
			out = append(out, r.String())
		}
	}
	return out
}

// some shows the first of a list of records for a log line: they are a stranger's
// text.
func some(list []string) string {
	more := ""
	if n := len(list); n > maxShown {
		list, more = list[:maxShown], fmt.Sprintf(", and %d more", n-maxShown)
	}
	shown := make([]string, len(list))
	for i, s := range list {
		shown[i] = printable(s, maxWords)
	}
	return strings.Join(shown, ", ") + more
}
