package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"usher/config"
	"usher/luabridge/modules"
)

// newRedis makes what policies have of Redis. It connects to nothing.
func newRedis(c *config.Redis) (*modules.Redis, error) {
	opt := modules.RedisOptions{
		DB: c.DB, Username: c.Username, Password: c.Password,
		MasterName: c.SentinelMaster, SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
	}
	for _, a := range c.Addresses {
		opt.Addresses = append(opt.Addresses, a.Addr)
	}
	switch {
	case c.SentinelMaster != "":
		opt.Kind = modules.RedisSentinel
	case len(opt.Addresses) > 1:
		opt.Kind = modules.RedisCluster
	default:
		opt.Kind = modules.RedisStandalone
	}
	if c.TLS {
		var err error
		if opt.TLS, err = redisTLS(c); err != nil {
			return nil, err
		}
	}
	return modules.NewRedis(opt)
}

func redisTLS(c *config.Redis) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("redis.ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis.ca: %s: %w", c.CA, errNoCertificate)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("redis.cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

var errNoCertificate = errors.New("no certificate in it")
