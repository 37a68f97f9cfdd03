package importdirector

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// affinity reads how users are kept and moved.
func (r *reader) affinity() error {
	limits := []struct {
		key, def  string
		dst       *time.Duration
		low, high time.Duration
	}{
		{"director_user_expire", "15 mins", &r.d.expire, 2 * time.Second, 720 * time.Hour},
		{"director_user_kick_delay", "2 secs", &r.d.kickDelay, 0, time.Minute},
	}
	for _, l := range limits {
		d, err := duration(r.text(l.key, l.def))
		if err != nil {
			return r.fault(r.line(l.key), l.key, "%v", err)
		}
		*l.dst = min(max(d, l.low), l.high)
		if *l.dst != d {
			r.note(r.line(l.key), l.key, "out of usher's range; %s instead", short(*l.dst))
		}
	}
	counts := map[string]int{}
	for _, key := range []string{"director_max_parallel_moves", "director_max_parallel_kicks"} {
		n, err := strconv.ParseUint(r.text(key, "100"), 10, 32)
		if err != nil {
			return r.fault(r.line(key), key, "bad number; expected one such as 100")
		}
		counts[key] = int(n)
	}
	moves, kicks := counts["director_max_parallel_moves"], counts["director_max_parallel_kicks"]
	r.d.parallel = min(max(moves, 1), 100000)
	if r.d.parallel != moves {
		r.note(r.line("director_max_parallel_moves"), "director_max_parallel_moves", "out of usher's range; %d instead", r.d.parallel)
	}
	if kicks != moves {
		r.note(r.line("director_max_parallel_kicks"), "director_max_parallel_kicks", "usher has one limit, affinity.parallel_moves; that of director_max_parallel_moves is taken")
	}
	if s, ok := r.root.get("director_flush_socket"); ok && s.value != "" {
		r.d.flush = s.value
		r.note(s.line, s.key, "affinity.flush_hook stands for it, but runs a program instead of asking a socket: write it anew")
	}
	r.hash()
	return nil
}

// hash maps director_username_hash to affinity.key.
func (r *reader) hash() {
	const key = "director_username_hash"
	r.d.hashed = r.text(key, "%Lu")
	format := strings.NewReplacer("{user}", "u", "{username}", "n", "{domain}", "d").Replace(r.d.hashed)
	if strings.Contains(format, "%") && !strings.Contains(format, "%L") {
		r.note(r.line(key), key, "usher compares names in lower case, always: users whose names differ in case alone become one")
	}
	switch strings.ReplaceAll(format, "%L", "%") {
	case "%u", "%n@%d":
		r.d.key = "user"
	case "%n":
		r.d.key = "local"
	case "%d":
		r.d.key = "domain"
	default:
		r.d.key = "user"
		r.note(r.line(key), key, "%s has no match: affinity.key can be user, local or domain; user is taken, and users whom the director kept together may be parted", show(r.d.hashed))
	}
}

// separator: the director itself cut names at master_user_separator; auth cuts
// at auth_master_user_separator before that.
func (r *reader) separator() {
	for _, key := range []string{"master_user_separator", "auth_master_user_separator"} {
		s, ok := r.root.get(key)
		if !ok || s.value == "" {
			continue
		}
		if r.d.separator != "" {
			if s.value[:1] != r.d.separator {
				r.note(s.line, key, "differs from master_user_separator, which is the director's own and counts")
			}
			continue
		}
		c := s.value[0]
		if c <= ' ' || c >= 0x7f {
			r.note(s.line, key, "no match: dovecot.master_user_separator is one printable ASCII byte")
			continue
		}
		if len(s.value) > 1 {
			r.note(s.line, key, "only the first byte counts, as in Dovecot")
		}
		r.d.separator, r.d.sepKey = s.value[:1], key
	}
}

// duration reads Dovecot's times (2.3 src/lib-settings/settings-parser.c,
// settings_get_time): a whole number and a unit or its beginning.
func duration(s string) (time.Duration, error) {
	bad := fmt.Errorf("bad time; expected one such as 15 min")
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseUint(s[:end], 10, 32)
	if err != nil {
		return 0, bad
	}
	unit := strings.ToLower(strings.TrimLeft(s[end:], " "))
	if unit == "" {
		if n != 0 {
			return 0, bad
		}
		return 0, nil
	}
	for _, u := range []struct {
		unit  time.Duration
		names string
	}{
		{time.Second, "secs seconds"},
		{time.Minute, "mins minutes"},
		{time.Millisecond, "msecs mseconds millisecs milliseconds"},
		{time.Hour, "hours"},
		{24 * time.Hour, "days"},
		{7 * 24 * time.Hour, "weeks"},
	} {
		for name := range strings.FieldsSeq(u.names) {
			if !strings.HasPrefix(name, unit) {
				continue
			}
			if n > uint64(math.MaxInt64/int64(u.unit)) || u.unit == time.Millisecond && n%1000 != 0 {
				return 0, bad
			}
			return time.Duration(n) * u.unit, nil
		}
	}
	return 0, bad
}

// short is a duration without zero parts: 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
