package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"usher/config"
)

// maxDemoDir leaves room for the names of sockets: their paths have 103 bytes on
// some systems (sun_path in unix(4)).
const maxDemoDir = 80

// demoDir makes the temporary folder that the sockets lie in; only its user can
// enter it.
func demoDir() (string, error) {
	base := os.TempDir()
	if len(base) > maxDemoDir {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "usher")
}

// demoPlaces are where the demo's usher answers.
type demoPlaces struct {
	AuthHTTP string `json:"auth_http"`    // URL
	Dovecot  string `json:"dovecot_auth"` // unix:/PATH
	Control  string `json:"control"`      // unix:/PATH
	Metrics  string `json:"metrics"`      // URL
}

// A demoUsher is the usher of a demo: the real one, with a configuration that
// was built in code.
type demoUsher struct {
	app    *app
	cfg    *config.Config
	log    *demoLog
	logs   *logging
	places demoPlaces

	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	err    error         // of Run; read it after ended
}

// startDemoUsher runs usher before the backends and returns when they were all
// checked and found up.
func startDemoUsher(ctx context.Context, dir string, backends *demoBackends, log *demoLog) (*demoUsher, error) {
	cfg, err := demoConfig(dir, backends)
	if err != nil {
		return nil, err
	}
	logs := newLogging(log, cfg.Log)
	load := func() (*config.Config, error) { return cfg, nil }
	a, err := newApp(cfg, "of the demo", load, logs)
	if err != nil {
		logs.close()
		return nil, err
	}
	u := &demoUsher{
		app: a, cfg: cfg, log: log, logs: logs, ended: make(chan struct{}),
		places: demoPlaces{
			AuthHTTP: "http://" + cfg.Nginx.Listeners[0].Address.Addr + cfg.Nginx.Listeners[0].Path,
			Dovecot:  cfg.Dovecot.Listeners[0].Address.String(),
			Control:  cfg.Control.Address.String(),
			Metrics:  "http://" + cfg.Control.HTTP.Addr + "/metrics",
		},
	}
	ctx, u.cancel = context.WithCancel(ctx)
	ready := make(chan struct{})
	go func() {
		defer close(u.ended)
		u.err = a.Run(ctx, cfg, func() { close(ready) })
	}()
	select {
	case <-ready:
	case <-u.ended:
		return nil, errors.Join(errors.New("usher did not start"), u.close())
	}
	if err := u.checked(ctx); err != nil {
		return nil, errors.Join(err, u.close())
	}
	return u, nil
}

// checked waits until each backend was checked, and says which one is not up.
func (u *demoUsher) checked(ctx context.Context) error {
	if err := u.app.gen.Load().monitor.WaitReady(ctx); err != nil {
		return err
	}
	var faults []error
	for _, b := range u.app.Status().Backends {
		if b.Check != "up" {
			faults = append(faults, fmt.Errorf("usher finds the backend %s %s: %s", b.Backend, b.Check, b.Error))
		}
	}
	return errors.Join(faults...)
}

// close ends usher, waits for what it has in flight, and returns Run's error.
func (u *demoUsher) close() error {
	u.cancel()
	<-u.ended
	u.logs.close()
	return u.err
}

// decision returns what usher's log says of the last decision for user by
// adapter.
func (u *demoUsher) decision(adapter, user string) (logLine, error) {
	// A decision is logged before it is answered: it only has to be written.
	if err := u.logs.out.Sync(); err != nil {
		return logLine{}, err
	}
	if line, ok := u.log.take(adapter, user); ok {
		return line, nil
	}
	return logLine{}, errors.New("usher's log has no such decision")
}

// demoConfig is what a usher.yaml would say: both protocols, the backends, and
// the built-in policy.
func demoConfig(dir string, backends *demoBackends) (*config.Config, error) {
	ports, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	tcp := func(i int) config.Address { return config.Address{Network: "tcp", Addr: ports[i]} }
	unix := func(name string) config.Address {
		return config.Address{Network: "unix", Addr: filepath.Join(dir, name)}
	}
	cfg := config.Default()
	cfg.StateDir = dir
	cfg.Director.UnlistedBackends = "deny"
	cfg.Nginx.Listeners = []config.NginxListener{{
		Address: tcp(0), Path: "/auth", Protocols: []string{"imap"},
	}}
	cfg.Dovecot.Listeners = []config.DovecotListener{{
		Address: unix("auth"), Kind: "auth", Mode: 0o600, Mechanisms: []string{"PLAIN", "LOGIN"},
	}}
	cfg.Control.Address, cfg.Control.HTTP = unix("control"), tcp(1)
	m := &cfg.Monitoring
	m.Interval, m.Retry, m.Timeout = time.Second, 250*time.Millisecond, 2*time.Second
	for _, b := range backends.list {
		m.BackendServers = append(m.BackendServers, config.Backend{
			Protocol: "imap", Host: b.addr.Addr().String(), Port: int(b.addr.Port()), ExpectStatus: "2xx", Weight: 100,
		})
	}
	return cfg, cfg.Validate()
}

// freeAddrs returns n addresses of loopback with ports that nobody listens on.
// They are held until all are found, so no two are the same.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer closing(&err, ln.Close)
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}

// closing is for defer: the end's error joins the one that is returned.
func closing(err *error, end func() error) { *err = errors.Join(*err, end()) }
