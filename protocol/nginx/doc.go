// Package nginx answers nginx's mail auth_http requests
// (ngx_mail_auth_http_module): who is this, and to which backend does the
// connection go.
//
// It knows HTTP and package proxy, and neither policies nor configuration
// files.
package nginx
