package servers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// StartWebServer runs Debian's nginx as a web server. A server is what stands in
// a server block of its configuration.
func StartWebServer(t testing.TB, servers ...string) *Process {
	t.Helper()
	NeedOthers(t)
	dir := Dir(t)
	var blocks strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&blocks, "server {\n%s\n}\n", s)
	}
	conf := WriteFile(t, fmt.Sprintf(`user www-data;
daemon off;
worker_processes 1;
pid %s;
error_log stderr notice;
events { worker_connections 256; }
http {
client_body_temp_path %[2]s/client;
proxy_temp_path %[2]s/proxy;
fastcgi_temp_path %[2]s/fastcgi;
uwsgi_temp_path %[2]s/uwsgi;
scgi_temp_path %[2]s/scgi;
access_log off;
%[3]s}
`, filepath.Join(dir, "nginx.pid"), dir, blocks.String()), dir, "nginx.conf")
	p := Start(t, "web", "nginx", "-p", dir, "-e", "stderr", "-c", conf)
	p.Logged(t, 0, "that its workers start", func(line string) bool {
		return strings.Contains(line, "start worker process ")
	})
	return p
}
