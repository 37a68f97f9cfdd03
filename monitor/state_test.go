package monitor

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// A script is one check a letter: + succeeds, - fails, = fails and is 100 s
// late. Wanted is the health after each: u up, d down.
func TestState_Next(t *testing.T) {
	tests := []struct {
		name       string
		rise, fall int
		script     string
		want       string
	}{
		{"first success decides", 3, 3, "+", "u"},
		{"first failure decides", 3, 3, "-", "d"},
		{"falls at the third failure in a row", 1, 3, "+---", "uuud"},
		{"a success between starts the count again", 1, 3, "+--+--+", "uuuuuuu"},
		{"and failures after it count from one", 1, 3, "+--+---", "uuuuuud"},
		{"rises at once", 1, 3, "-+", "du"},
		{"rises at the second success in a row", 2, 1, "-+-++", "ddddu"},
		{"fall 1", 1, 1, "+-+-", "udud"},
		{"a result after a stale one decides at once", 3, 3, "+=", "ud"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			by := rule{tt.rise, tt.fall, 20 * time.Second}
			now := time.Unix(1e9, 0)
			st := &state{}
			var got strings.Builder
			for _, c := range tt.script {
				r := result{at: now, took: time.Millisecond}
				switch c {
				case '-':
					r.err = errBroken
				case '=':
					now = now.Add(100 * time.Second)
					r.at, r.err = now, errBroken
				}
				st = st.next(r, by)
				got.WriteByte(st.health.String()[0])
				now = now.Add(5 * time.Second)
			}
			if got.String() != tt.want {
				t.Errorf("%s: %s, want %s", tt.script, &got, tt.want)
			}
		})
	}
}

func TestState_Keeps(t *testing.T) {
	by := rule{1, 3, 20 * time.Second}
	now := time.Unix(1e9, 0)
	addr := netip.MustParseAddr("192.0.2.1")
	st := (&state{}).next(result{at: now, addr: addr}, by)
	st = st.next(result{at: now.Add(time.Second), err: errors.New("name does not resolve")}, by)
	if st.addr != addr {
		t.Errorf("addr %s, want the last good one", st.addr)
	}
	if !st.unsettled() {
		t.Error("a failed check must be followed by a retry")
	}
	st = st.next(result{at: now.Add(2 * time.Second), addr: addr}, by)
	if st.lastError != "name does not resolve" {
		t.Errorf("last error %q, want it kept", st.lastError)
	}
	if !st.since.Equal(now) {
		t.Errorf("since %s, want %s: health did not change", st.since, now)
	}
	if st.unsettled() {
		t.Error("settled, and yet a retry")
	}
	end := now.Add(22 * time.Second)
	if h, _ := st.healthAt(end.Add(-1), by); h != proxy.Up {
		t.Errorf("%s just before the age of staleness", h)
	}
	if h, since := st.healthAt(end, by); h != proxy.Stale || !since.Equal(end) {
		t.Errorf("%s since %s, want stale since %s", h, since, end)
	}
}
