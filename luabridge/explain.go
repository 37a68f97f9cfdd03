package luabridge

import (
	"fmt"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// A meter is what a script used, for whom a decision is explained to.
type meter struct {
	steps int
	began time.Time
}

// meter begins one, if anybody wants to know.
func (s *state) meter(q *proxy.Query) (m meter) {
	if q.Trace != nil {
		m = meter{s.budget.Steps(), time.Now()}
	}
	return m
}

func (s *state) used(m meter) string {
	return fmt.Sprintf("%d steps, %d µs", s.budget.Steps()-m.steps, time.Since(m.began).Microseconds())
}

// explain says what one script came to.
func (s *state) explain(u *unit, q *proxy.Query, said *proxy.Verdict, refused bool, result lua.LValue, m meter) {
	var did []string
	switch {
	case refused || said.Refused:
		did = append(did, "refuses")
	case said.TempFail:
		did = append(did, fmt.Sprintf("tells the login to try later: %q", said.TempFailText))
	case said.Hold > 0:
		did = append(did, "accepts, holds the login for "+said.Hold.String())
	case said.Selected:
		did = append(did, "accepts, selects "+proxy.HostPort(said.Host, said.Port))
	default:
		did = append(did, "accepts, selects nothing")
	}
	if s.buf.TextSet() {
		did = append(did, fmt.Sprintf("says %q", said.Text))
	}
	if n, ok := result.(lua.LNumber); ok && n != 0 {
		did = append(did, "returns a failure as result, which is only logged")
	}
	q.Trace(fmt.Sprintf("%s: %s (%s)", u.name, strings.Join(did, ", "), s.used(m)))
}

// passedOver says that a filter was not asked, and why.
func (f *filter) passedOver(q *proxy.Query) {
	flag := "when_unauthenticated"
	switch {
	case q.Request.NoAuth:
		flag = "when_no_auth"
	case q.Authenticated:
		flag = "when_authenticated"
	}
	q.Trace(fmt.Sprintf("%s: not asked, %s is not set", f.name, flag))
}
