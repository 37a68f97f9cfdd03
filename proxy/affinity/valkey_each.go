package affinity

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// Each implements Store. It reads in small parts; one that changes meanwhile may be
// there as it was or as it is.
func (v *Valkey) Each(ctx context.Context, host string, yield func(Assignment) bool) error {
	for b := range buckets {
		bucket := "{" + strconv.Itoa(b) + "}"
		hosts := []string{host}
		if host == "" {
			var err error
			if hosts, err = v.hostsOf(ctx, bucket); err != nil {
				return err
			}
		}
		for _, h := range hosts {
			more, err := v.eachOf(ctx, bucket, h, yield)
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// hostsOf returns the hosts that have assignments in a bucket.
func (v *Valkey) hostsOf(ctx context.Context, bucket string) ([]string, error) {
	all, err := v.db.Ask(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Smembers().Key(v.db.Key("n:" + bucket)).Build()}
	})
	if err != nil {
		return nil, err
	}
	hosts, err := all[0].AsStrSlice()
	if err != nil {
		return nil, errStrange
	}
	return hosts, nil
}

// scan returns a part of a host's set of one bucket: members and scores.
func (v *Valkey) scan(ctx context.Context, bucket, host string, cursor uint64) (valkey.ScanEntry, error) {
	all, err := v.db.Ask(ctx, func(b valkey.Builder) []valkey.Completed {
		return []valkey.Completed{b.Zscan().Key(v.db.Key("h:" + bucket + host)).Cursor(cursor).Count(500).Build()}
	})
	if err != nil {
		return valkey.ScanEntry{}, err
	}
	page, err := all[0].AsScanEntry()
	if err != nil {
		return valkey.ScanEntry{}, errStrange
	}
	return page, nil
}

// A member of a host's set; at is when it expires, in ms since 1970 of the store's
// clock.
type member struct {
	Assignment
	at int64
}

func members(elements []string, host string) (list []member) {
	for ; len(elements) >= 2; elements = elements[2:] {
		score, err := strconv.ParseFloat(elements[1], 64)
		if name, tag, ok := strings.Cut(elements[0], "\x00"); ok && err == nil {
			list = append(list, member{Assignment{Key: Key{tag, name}, Host: host}, int64(score)})
		}
	}
	return list
}

// eachOf yields one host's of one bucket. It reports false when yield did.
func (v *Valkey) eachOf(ctx context.Context, bucket, host string, yield func(Assignment) bool) (more bool, err error) {
	seen := map[Key]bool{}
	for cursor := uint64(0); ; {
		page, err := v.scan(ctx, bucket, host, cursor)
		if err != nil {
			return false, err
		}
		var list []Assignment
		now := v.db.Now()
		for _, m := range members(page.Elements, host) {
			if m.at > now && !seen[m.Key] {
				seen[m.Key] = true
				m.Expires = time.Now().Add(time.Duration(m.at-now) * time.Millisecond)
				list = append(list, m.Assignment)
			}
		}
		if err := v.users(ctx, bucket, list); err != nil {
			return false, err
		}
		for _, a := range list {
			if !yield(a) {
				return false, nil
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return true, nil
		}
	}
}

// users fills in the names of users.
func (v *Valkey) users(ctx context.Context, bucket string, list []Assignment) error {
	if len(list) == 0 {
		return nil
	}
	all, err := v.db.Ask(ctx, func(b valkey.Builder) []valkey.Completed {
		var cmds []valkey.Completed
		for _, a := range list {
			cmds = append(cmds, b.Smembers().Key(v.db.Key("u:"+bucket+a.Key.Name+"\x00"+a.Key.Tag)).Build())
		}
		return cmds
	})
	if err != nil {
		return err
	}
	for i := range list {
		if users, err := all[i].AsStrSlice(); err == nil && len(users) > 0 {
			list[i].Users = users
		}
	}
	return nil
}
