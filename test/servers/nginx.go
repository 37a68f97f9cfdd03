package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Nginx is a running mail proxy.
type Nginx struct {
	*Process
	Addr map[string]string // protocol: ip:port, one for each of imap, pop3, smtp
}

// NginxOptions say what a site would write into deploy/nginx/usher-site.conf.
type NginxOptions struct {
	AuthHTTP string // "ip:port/path", or "unix:/path:/path": usher's listener
	Secret   string // sent as X-Auth-Key; "": no header
	// ProxyProtocol lets mail clients come with a PROXY header that is believed.
	ProxyProtocol bool
	// TLS makes the listeners speak TLS from the first byte.
	TLS *Certificate
	// Clients, if set, is the only client certificate that is believed.
	Clients *Certificate
	// Settings stand in each server block.
	Settings string
}

// StartNginx runs Debian's nginx with deploy/nginx/usher.conf, included as it
// stands, and a usher-site.conf of its own.
func StartNginx(t testing.TB, o NginxOptions) *Nginx {
	t.Helper()
	NeedOthers(t)
	dir := Dir(t)
	n := &Nginx{Addr: map[string]string{}}

	var site strings.Builder
	fmt.Fprintf(&site, "auth_http %s;\n", o.AuthHTTP)
	if o.Secret != "" {
		fmt.Fprintf(&site, "auth_http_header X-Auth-Key %q;\n", o.Secret)
	}
	var flags string
	if o.TLS != nil {
		fmt.Fprintf(&site, "ssl_certificate %s;\nssl_certificate_key %s;\n", o.TLS.CertFile, o.TLS.KeyFile)
		flags += " ssl"
	}
	if o.Clients != nil {
		fmt.Fprintf(&site, "ssl_verify_client optional;\nssl_client_certificate %s;\n", o.Clients.CertFile)
	}
	if o.ProxyProtocol {
		site.WriteString("set_real_ip_from 127.0.0.0/8;\n")
		flags += " proxy_protocol"
	}
	for _, protocol := range []string{"imap", "pop3", "smtp"} {
		n.Addr[protocol] = Addr(t, "127.0.0.1")
		fmt.Fprintf(&site, "server {\n\tlisten %s%s;\n\tprotocol %s;\n%s}\n", n.Addr[protocol], flags, protocol, o.Settings)
	}
	WriteFile(t, site.String(), dir, "usher-site.conf")

	conf := WriteFile(t, NginxMain(dir, Deploy(t, "nginx/usher.conf")), dir, "nginx.conf")
	n.Process = Start(t, "nginx", "nginx", "-p", dir, "-e", "stderr", "-c", conf)
	n.Logged(t, 0, "that its workers start", func(line string) bool {
		return strings.Contains(line, "start worker process ")
	})
	return n
}

// NginxMain is the nginx.conf around the snippet: what Debian's does for
// modules, and what a test needs to stay in its folder.
func NginxMain(dir, snippet string) string {
	module := "/usr/lib/nginx/modules/ngx_mail_module.so"
	var load string
	if _, err := os.Stat(module); err == nil {
		load = "load_module " + module + ";\n"
	}
	return load + fmt.Sprintf(`user www-data;
daemon off;
worker_processes 2;
pid %s;
error_log stderr notice;
events { worker_connections 1024; }
include %s;
`, filepath.Join(dir, "nginx.pid"), snippet)
}
