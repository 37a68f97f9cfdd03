package shared

import (
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"
)

// A Secret is a text that only Reveal shows.
type Secret interface {
	Reveal() string
	IsEmpty() bool
}

// Options say which server, and how to get there.
type Options struct {
	// Addresses are HOST:PORT or unix:/PATH: of the server, of some nodes of a
	// Cluster (several), or of Sentinels (with SentinelMaster).
	Addresses []string
	DB        int
	Username  string
	Password  Secret      // nil: none
	TLS       *tls.Config // nil: none

	SentinelMaster   string
	SentinelUsername string
	SentinelPassword Secret

	// Prefix stands before every key and channel. It has no brace: these are what
	// Cluster hashes.
	Prefix string
	// Track is the part of a key after Prefix that the invalidations are wanted of.
	Track string
	// Timeout bounds each call; 0: 250 ms.
	Timeout time.Duration

	// Node is this node's name, which no other has. "": it is no node, and only
	// looks.
	Node string
	// Describe returns what Nodes shall show of this node to all. It is called often.
	Describe func() []byte

	Log *zap.Logger // nil: none
}

const (
	defaultTimeout = 250 * time.Millisecond
	// beat is how often a node shows that it lives, and sees whether the store does.
	beat = 500 * time.Millisecond
	// nodeLife is how long a node is shown after its last beat.
	nodeLife = 5 * time.Second
	// freshFor is how long after a beat the invalidations are relied upon.
	freshFor = 2 * time.Second
	// settle is how long after an outage a missing row may be one that another node
	// has yet to bring back.
	settle = 2 * nodeLife
)

func (o *Options) valid() error {
	switch {
	case len(o.Addresses) == 0:
		return errors.New("redis.addresses is empty; expected the address of the store")
	case strings.ContainsAny(o.Prefix, "{}"):
		return errors.New("redis.prefix has a brace; expected none")
	}
	return nil
}
