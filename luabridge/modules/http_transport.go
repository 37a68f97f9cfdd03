package modules

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// What the connections of glua_http are bounded by.
const (
	maxHTTPConns    = 64 // to one host; further requests wait, within their deadlines
	maxHTTPIdle     = 16 // to one host
	maxHTTPIdleAll  = 64
	httpIdleTime    = time.Minute
	httpDialTimeout = 5 * time.Second
	maxAnswerHeader = 64 << 10 // bytes
)

// dialEnd is the key of the deadline that a connection is made by: the transport
// takes the request's own away, so that a request that comes later could use the
// connection, and nothing may outlive its request but what is ready to be used.
type dialEnd struct{}

// NewTransport makes the connections of glua_http, kept alive between requests:
// HTTP/1.1, TLS by the system's roots, and no proxies whatever the environment
// says. CloseIdleConnections ends what is left of it.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: httpDialTimeout, Resolver: lookups}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if end, ok := ctx.Value(dialEnd{}).(time.Time); ok {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, end)
				defer cancel()
			}
			return dialer.DialContext(ctx, network, address)
		},
		TLSHandshakeTimeout:    httpDialTimeout,
		MaxConnsPerHost:        maxHTTPConns,
		MaxIdleConnsPerHost:    maxHTTPIdle,
		MaxIdleConns:           maxHTTPIdleAll,
		IdleConnTimeout:        httpIdleTime,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// sharedTransport serves all whose Deps have none.
var sharedTransport = sync.OnceValue(NewTransport)

func (d *Deps) transport() http.RoundTripper {
	if d.HTTP != nil {
		return d.HTTP
	}
	return sharedTransport()
}
