package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"usher/config"
)

func newServe(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer proxies until SIGTERM; SIGHUP reloads",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), f.path())
		},
	}
}

// ballast counts as heap in use, so that the garbage collector, which runs when
// the heap has doubled, does not run dozens of times a second in a login storm
// while there is little on it. Nobody touches it: it takes no memory.
var ballast []byte

const ballastSize = 64 << 20

func serve(ctx context.Context, path string) error {
	ballast = make([]byte, ballastSize)
	defer runtime.KeepAlive(ballast)
	load := func() (*config.Config, error) { return loadConfig(path) }
	cfg, err := load()
	if err != nil {
		return err
	}
	if err := cfg.RequireListener(); err != nil {
		return err
	}
	logs := newLogging(os.Stderr, cfg.Log)
	defer logs.close()
	a, err := newApp(cfg, path, load, logs)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reloads, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-hup:
				notify(logs.log, daemon.SdNotifyReloading)
				if err := a.Reload(false); err != nil {
					logs.log.Debug("reload by SIGHUP", zap.Error(err)) // Reload has logged it
				}
				notify(logs.log, daemon.SdNotifyReady)
			case <-ended:
				return
			}
		}
	}()
	defer func() { close(ended); <-reloads }()
	err = a.Run(ctx, cfg, func() {
		logs.log.Info("serving", zap.String("version", version()), zap.String("config", path))
		notify(logs.log, daemon.SdNotifyReady)
	})
	if err != nil {
		logs.log.Error("ended", zap.Error(err))
		return err
	}
	logs.log.Info("ended")
	return nil
}

// notify tells systemd, where it wants to know.
func notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil && !errors.Is(err, net.ErrClosed) {
		log.Warn("sd_notify", zap.Error(err))
	}
}

// loadConfig reads the file; that it is not there is said in words.
func loadConfig(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w\n(name the file with -c; to try usher without one: usher demo)", err)
	}
	return cfg, err
}
