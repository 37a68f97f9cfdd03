package proxy

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// record writes the decision's one log line and counts it.
func (p *Pipeline) record(r *Request, d *Decision) {
	p.opt.Recorder.Decided(r, d)
	level := zapcore.InfoLevel
	if d.Outcome == TempFail && !reported(d.Err) {
		level = zapcore.WarnLevel
	}
	if ce := p.log.Check(level, "decision"); ce != nil {
		ce.Write(zap.Inline((*decisionLine)(&line{r, d})))
	}
	if d.Outcome == Denied && d.Reason == BadPassword {
		p.log.Info("auth failure",
			zap.String("rip", addrText(r)), zap.String("service", clip(r.Service)),
			zap.String("user", clip(d.User)), zap.String("reason", string(d.Reason)))
	}
}

type line struct {
	r *Request
	d *Decision
}

type decisionLine line

// MarshalLogObject implements zapcore.ObjectMarshaler: the fields that others
// rely on, in their order.
func (l *decisionLine) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	r, d := l.r, l.d
	enc.AddString("id", d.ID)
	enc.AddString("adapter", r.Adapter)
	enc.AddString("session", clip(r.Session))
	enc.AddString("service", clip(r.Service))
	enc.AddString("user", clip(d.User))
	enc.AddString("rip", addrText(r))
	local := ""
	if r.Local.Addr().IsValid() {
		local = r.Local.Addr().String()
	}
	enc.AddString("lip", local)
	enc.AddBool("tls", r.TLS.Secured)
	enc.AddString("mech", strings.ToUpper(clip(r.Method)))
	enc.AddString("outcome", d.Outcome.String())
	backend := ""
	if d.Host != "" {
		backend = HostPort(d.Host, d.Port)
	}
	enc.AddString("backend", backend)
	enc.AddString("by", d.By)
	enc.AddString("reason", string(d.Reason))
	enc.AddInt64("took_us", d.Took.Microseconds())
	if d.Err != nil {
		enc.AddString("error", d.Err.Error())
	}
	if len(d.Logs) > 0 {
		enc.OpenNamespace("custom") // a policy's own names cannot pose as ours
		for _, a := range d.Logs {
			enc.AddString(a.Name, a.Value)
		}
	}
	return nil
}

// clip bounds what clients and proxies said; nothing true is longer.
func clip(s string) string {
	return s[:min(len(s), MaxUserLen)]
}

func addrText(r *Request) string {
	if !r.Client.Addr().IsValid() {
		return ""
	}
	return r.Client.Addr().String()
}
