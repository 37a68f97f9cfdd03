package dovecot

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy"
	"usher/proxy/moves"
)

// A login process that ends while `proxy kick` asks all of them makes Dovecot 2.3
// say EX_TEMPFAIL, by HTTP and by doveadm's own protocol. Lists show whether the
// session is gone. Of any other command it is a fault.
func TestDoveadm_TempFail(t *testing.T) {
	var kicks atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1000))
		switch {
		case err != nil:
			t.Error(err)
		case r.Method == http.MethodGet:
			io.WriteString(w, `[{"command":"proxyKick","parameters":[{"name":"user","type":"array"}]}]`)
		case strings.Contains(string(body), "proxyKick"):
			kicks.Add(1)
			io.WriteString(w, `[["error",{"type":"exitCode","exitCode":75},"0"]]`)
		case strings.Contains(string(body), "who"):
			io.WriteString(w, `[["error",{"type":"exitCode","exitCode":75},"0"]]`)
		case kicks.Load() > 0:
			io.WriteString(w, `[["doveadmResponse",[],"0"]]`)
		default:
			io.WriteString(w, `[["doveadmResponse",[{"username":"alice","service":"imap","src-ip":"192.0.2.1","dest-ip":"192.0.2.2","dest-port":"143"}],"0"]]`)
		}
	}))
	defer web.Close()
	key := proxy.NewSecret("key")
	k, err := NewDoveadm(DoveadmOptions{URL: web.URL, APIKey: key, Role: moves.Proxy})
	if err != nil {
		t.Fatal(err)
	}
	gone, left, err := moves.Kick(t.Context(), []moves.Kicker{k}, []string{"alice"}, "", 10*time.Second)
	if !gone || err != nil || kicks.Load() != 1 {
		t.Errorf("gone %t, left %v, error %v, %d kicks", gone, left, err, kicks.Load())
	}
	b, err := NewDoveadm(DoveadmOptions{URL: web.URL, APIKey: key, Role: moves.Backend})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Sessions(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "does not do `who`: TEMPFAIL") {
		t.Errorf("who: %v", err)
	}

	in := bufio.NewReader(strings.NewReader("\n-TEMPFAIL\n"))
	r, err := readDoveadmReply(in)
	if err != nil || r.fault != tempFail {
		t.Errorf("%+v, %v", r, err)
	}
	d := &Doveadm{timeout: time.Second, wire: fixed{doveadmReply{fault: tempFail, said: "KICK failed: Connection closed"}}}
	if _, err := d.run(t.Context(), []doveadmCommand{{name: "proxy kick"}}); err != nil {
		t.Error(err)
	}
	if _, err := d.run(t.Context(), []doveadmCommand{{name: "kick"}}); err == nil || !strings.HasSuffix(err.Error(), "`kick`: TEMPFAIL: KICK failed: Connection closed") {
		t.Error(err)
	}
}

// fixed is a wire by which each command has the same answer.
type fixed struct{ reply doveadmReply }

func (fixed) dialect(context.Context) (doveadmDialect, error) { return doveadm23, nil }

func (f fixed) run(_ context.Context, commands []doveadmCommand) (replies []doveadmReply, err error) {
	for range commands {
		replies = append(replies, f.reply)
	}
	return replies, nil
}
