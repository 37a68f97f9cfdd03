package modules

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	silentAfter = 8                      // calls in a row that nobody answered
	silentTime  = 200 * time.Millisecond // each of them waited for, at least
)

var (
	errSilent      = errors.New("no answer in time to the calls before this one")
	errRedisSilent = fmt.Errorf("redis: %w", errSilent)
)

// A silence is whether a server answers. Each call that waits has a Lua state
// meanwhile, and soon the logins that need no such server had none. So when nobody was
// answered for a while one call at a time still waits, and the others fail at
// once, until there is an answer.
type silence struct {
	mu     sync.Mutex
	missed int  // calls in a row
	trying bool // one waits though the server is silent
}

// begin reports whether a call may wait; done is told what came of it.
func (s *silence) begin() (done func(error), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	only := s.missed >= silentAfter
	if only && s.trying {
		return nil, false
	}
	s.trying = s.trying || only
	began := time.Now()
	return func(err error) { s.end(only, err, time.Since(began)) }, true
}

func (s *silence) end(only bool, err error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if only {
		s.trying = false
	}
	switch {
	case err == nil:
		s.missed = 0
	case took >= silentTime:
		s.missed++
	}
}

// silences are those of many servers. The zero value is ready.
type silences struct {
	mu sync.Mutex
	by map[string]*silence
}

// maxSilences bounds how many servers are known: policies may make their names of
// what clients send.
const maxSilences = 1000

func (s *silences) of(server string) *silence {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.by[server]
	if one == nil {
		if len(s.by) >= maxSilences || s.by == nil {
			s.by = map[string]*silence{}
		}
		one = &silence{}
		s.by[strings.Clone(server)] = one
	}
	return one
}
