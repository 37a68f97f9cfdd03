package main

import (
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/config"
)

const (
	logBuffer = 64 << 10
	logDelay  = 100 * time.Millisecond
)

// logging is the process's logger. Lines go out together, a tenth of a second
// late at most: a write for each login would cost more than the login. What is
// a warning or worse goes out at once.
type logging struct {
	log   *zap.Logger
	level zap.AtomicLevel
	out   *zapcore.BufferedWriteSyncer
}

func newLogging(w io.Writer, c config.Log) *logging {
	l := &logging{
		level: zap.NewAtomicLevel(),
		// Of w only Write is used: Sync would be an fsync, which a pipe refuses.
		out: &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(struct{ io.Writer }{w}), Size: logBuffer, FlushInterval: logDelay},
	}
	l.set(c)
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	enc.TimeKey, enc.EncodeDuration = "ts", zapcore.StringDurationEncoder
	var encoder zapcore.Encoder
	if c.Format == "console" {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	} else {
		encoder = zapcore.NewJSONEncoder(enc)
	}
	core := zapcore.NewCore(encoder, l.out, l.level)
	l.log = zap.New(&promptCore{core, l.out})
	return l
}

// set takes over the level. The format stays until the next start.
func (l *logging) set(c config.Log) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		level = zap.InfoLevel
	}
	l.level.SetLevel(level)
}

// close writes what is held back.
func (l *logging) close() {
	l.out.Stop() //nolint:errcheck // nowhere to tell it
}

// A promptCore writes warnings out at once.
type promptCore struct {
	zapcore.Core
	out *zapcore.BufferedWriteSyncer
}

func (c *promptCore) With(f []zap.Field) zapcore.Core { return &promptCore{c.Core.With(f), c.out} }

func (c *promptCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *promptCore) Write(e zapcore.Entry, f []zap.Field) error {
	err := c.Core.Write(e, f)
	// A storm of decisions that fail must not become a storm of writes.
	if e.Level >= zap.WarnLevel && e.Message != "decision" {
		return c.out.Sync()
	}
	return err
}
