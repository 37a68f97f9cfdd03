package control

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy"
)

// A DecisionRecord is one decision, as its log line says it.
type DecisionRecord struct {
	ID      string            `json:"id"`
	At      time.Time         `json:"at"`
	Adapter string            `json:"adapter"`
	Session string            `json:"session,omitempty"`
	Service string            `json:"service"`
	User    string            `json:"user"`
	RIP     string            `json:"rip,omitempty"`
	LIP     string            `json:"lip,omitempty"`
	TLS     bool              `json:"tls"`
	Mech    string            `json:"mech,omitempty"`
	Outcome string            `json:"outcome"`
	Backend string            `json:"backend,omitempty"`
	By      string            `json:"by"`
	Reason  string            `json:"reason"`
	Text    string            `json:"text,omitempty"` // that the client was shown
	Error   string            `json:"error,omitempty"`
	TookUS  int64             `json:"took_us"`
	Custom  map[string]string `json:"custom,omitempty"` // of the policy
}

// decisions are the last ones, a ring. Adding takes one slot's lock, and allocates
// nothing once a slot has the room.
type decisions struct {
	slots atomic.Pointer[[]slot]
	next  atomic.Uint64
}

// A slot has copies of all texts: what a request holds is part of a line that is
// long, if a client wants it so.
type slot struct {
	mu      sync.Mutex
	at      time.Time
	took    time.Duration
	client  netip.Addr
	local   netip.Addr
	secured bool
	outcome proxy.Outcome
	port    int
	text    []byte
	ends    [texts]uint32 // of each text in text
}

// The texts of a slot.
const (
	textID = iota
	textAdapter
	textSession
	textService
	textMethod
	textUser
	textHost
	textBy
	textReason
	textShown
	textError
	textCustom // name, NUL, value, NUL, …
	texts
)

// maxKept bounds one text of a slot, in bytes.
const maxKept = 512

// resize makes room for n decisions and forgets those so far, unless it has that
// room already.
func (r *decisions) resize(n int) {
	if p := r.slots.Load(); p != nil && len(*p) == n {
		return
	}
	s := make([]slot, n)
	r.slots.Store(&s)
}

func (r *decisions) add(q *proxy.Request, d *proxy.Decision) {
	p := r.slots.Load()
	if p == nil || len(*p) == 0 {
		return
	}
	now := time.Now()
	s := &(*p)[r.next.Add(1)%uint64(len(*p))]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.took, s.secured, s.outcome, s.port = now, d.Took, q.TLS.Secured, d.Outcome, d.Port
	s.client, s.local = q.Client.Addr(), q.Local.Addr()
	s.text = s.text[:0]
	fault := ""
	if d.Err != nil {
		fault = d.Err.Error()
	}
	for i, t := range [textCustom]string{d.ID, q.Adapter, q.Session, q.Service, q.Method, d.User, d.Host, d.By, string(d.Reason), d.Text, fault} {
		s.text = append(s.text, t[:min(len(t), maxKept)]...)
		s.ends[i] = uint32(len(s.text))
	}
	for _, a := range d.Logs {
		if len(s.text) < texts*maxKept {
			s.text = append(s.text, a.Name[:min(len(a.Name), maxKept)]...)
			s.text = append(s.text, 0)
			s.text = append(s.text, a.Value[:min(len(a.Value), maxKept)]...)
			s.text = append(s.text, 0)
		}
	}
	s.ends[textCustom] = uint32(len(s.text))
}

// get returns one of the texts. The caller holds the lock.
func (s *slot) get(i int) string {
	begin := uint32(0)
	if i > 0 {
		begin = s.ends[i-1]
	}
	return string(s.text[begin:s.ends[i]])
}

// find returns the decisions with that id, or of that user, the newest first, at
// most most of them. What is "" is not looked at.
func (r *decisions) find(id, user string, most int) (out []DecisionRecord) {
	p := r.slots.Load()
	if p == nil || len(*p) == 0 {
		return nil
	}
	n := uint64(len(*p))
	last := r.next.Load()
	for i := range n {
		s := &(*p)[(last+n-i%n)%n]
		s.mu.Lock()
		if !s.at.IsZero() && (id == "" || s.get(textID) == id) && (user == "" || strings.EqualFold(s.get(textUser), user)) {
			out = append(out, s.record())
		}
		s.mu.Unlock()
		if len(out) == most {
			break
		}
	}
	return out
}

// record makes a record of the slot. The caller holds the lock.
func (s *slot) record() DecisionRecord {
	r := DecisionRecord{
		ID: s.get(textID), At: s.at, Adapter: s.get(textAdapter), Session: s.get(textSession), Service: s.get(textService), User: s.get(textUser),
		TLS: s.secured, Mech: strings.ToUpper(s.get(textMethod)), Outcome: s.outcome.String(), By: s.get(textBy), Reason: s.get(textReason),
		Text: s.get(textShown), Error: s.get(textError), TookUS: s.took.Microseconds(),
	}
	if s.client.IsValid() {
		r.RIP = s.client.String()
	}
	if s.local.IsValid() {
		r.LIP = s.local.String()
	}
	if host := s.get(textHost); host != "" {
		r.Backend = proxy.HostPort(host, s.port)
	}
	custom := strings.Split(s.get(textCustom), "\x00")
	for i := 0; i+1 < len(custom); i += 2 {
		if r.Custom == nil {
			r.Custom = map[string]string{}
		}
		r.Custom[custom[i]] = custom[i+1]
	}
	return r
}
