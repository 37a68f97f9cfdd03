package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"usher/config"
	"usher/internal/shared"
	"usher/proxy/affinity"
)

// A store keeps assignments; Run does its background work until ctx ends.
type store interface {
	affinity.Store
	SetLimits(expire time.Duration, maxEntries int)
	Run(ctx context.Context)
}

var (
	_ store = (*affinity.Memory)(nil)
	_ store = (*affinity.Valkey)(nil)
)

// openStore makes the store that the configuration names, and what nodes share in
// it: nil with the memory store. It connects to nothing.
func openStore(cfg *config.Config, log *zap.Logger) (store, *cluster, error) {
	if cfg.Affinity.Store != "valkey" {
		m, err := affinity.NewMemory(affinity.MemoryOptions{Expire: cfg.Affinity.Expire, MaxEntries: cfg.Affinity.MaxEntries})
		return m, nil, err
	}
	c := &cluster{node: nodeName(cfg), started: time.Now(), log: log}
	r := redisOptions(&cfg.Redis)
	tls, err := r.TLSConfig()
	if err != nil {
		return nil, nil, err
	}
	c.db, err = shared.Open(shared.Options{
		Addresses: r.Addresses, DB: r.DB, Username: r.Username, Password: r.Password, TLS: tls,
		SentinelMaster: r.SentinelMaster, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword,
		Prefix: cfg.Redis.Prefix, Track: affinity.Track, Node: c.node, Describe: c.describe, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	c.db.OnBeat(c.compare)
	v, err := affinity.NewValkey(affinity.ValkeyOptions{
		DB: c.db, Expire: cfg.Affinity.Expire, MaxEntries: cfg.Affinity.MaxEntries, Hash: c.hashes, Log: log,
	})
	return v, c, err
}
