package config

import (
	"errors"
	"net"
	"net/netip"

	"usher/proxy"
)

// Nginx is the auth_http side.
type Nginx struct {
	Listeners []NginxListener `yaml:"listeners"`
}

// NginxListener is one auth_http server.
type NginxListener struct {
	// Address is HOST:PORT, unix:/PATH, or fd:NAME for a socket that the
	// service manager opened. Required.
	Address Address `yaml:"address"`
	// Mode, Owner and Group of a unix socket. Mode defaults to 0660.
	Mode  Mode   `yaml:"mode"`
	Owner string `yaml:"owner"`
	Group string `yaml:"group"`
	// Path of the requests; another is not found.
	Path string `yaml:"path"`
	// Protocols that are answered. smtp needs a password driver that verifies.
	Protocols []string `yaml:"protocols" oneof:"imap pop3 smtp"`
	// SharedSecret must come as X-Auth-Key with every request when it is set.
	SharedSecret proxy.Secret `yaml:"shared_secret"`
	// ProxyProtocolFrom are the only peers that may send a PROXY header.
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	// AllowNoAuth answers Auth-Method none, which names a user that nobody
	// verified. Never together with smtp.
	AllowNoAuth bool `yaml:"allow_no_auth"`
	// Insecure lets a listener off loopback do without SharedSecret.
	Insecure bool `yaml:"insecure"`
}

func (l *NginxListener) setDefaults() {
	l.Path = "/auth"
	l.Protocols = []string{"imap", "pop3"}
}

// ErrExposed is returned by Guard.
var ErrExposed = errors.New("config: listener is off loopback and nothing guards it")

// Guard reports ErrExposed when the listener may not serve at addr. Call it with
// the bound address: that of fd:NAME is not known before.
func (l *NginxListener) Guard(addr net.Addr) error {
	if exposed(addr) && !l.guarded() {
		return ErrExposed
	}
	return nil
}

func (l *NginxListener) guarded() bool { return l.Insecure || !l.SharedSecret.IsEmpty() }

// Dovecot is the side of Dovecot's auth protocol, which Postfix and Exim speak
// too.
type Dovecot struct {
	Listeners []DovecotListener `yaml:"listeners"`
	// MasterUserSeparator cuts a user name before it becomes an assignment key.
	// Empty or one byte, as Dovecot's auth_master_user_separator.
	MasterUserSeparator string `yaml:"master_user_separator"`
	Master              Master `yaml:"master"`
	// Doveadm are the servers where sessions are listed and kicked.
	Doveadm []Doveadm `yaml:"doveadm"`
}

// DovecotListener is one socket, or, for kind notify, one FIFO.
type DovecotListener struct {
	// Address as in NginxListener. Required.
	Address Address `yaml:"address"`
	// Kind: auth (login processes, Postfix, Exim), userdb (lmtp, doveadm),
	// notify (the FIFO of proxied sessions) or director-admin.
	Kind string `yaml:"kind" oneof:"auth userdb notify director-admin"`
	// Mode of a unix socket; by default 0666 for auth and notify, 0600 for
	// userdb and director-admin.
	Mode Mode `yaml:"mode"`
	// Owner and Group of a unix socket, names or numbers. Peers of userdb and
	// director-admin must be one of them, root, or usher's own user.
	Owner string `yaml:"owner"`
	Group string `yaml:"group"`
	// Upstream is the real auth server to interpose. Empty: standalone. Only
	// for auth and userdb.
	Upstream Address `yaml:"upstream"`
	// Mechanisms that are offered standalone; interposed, they are the
	// upstream's.
	Mechanisms []string `yaml:"mechanisms" oneof:"PLAIN LOGIN OAUTHBEARER XOAUTH2"`
	// RequireSecured refuses plaintext mechanisms from clients that do not say
	// `secured`.
	RequireSecured bool `yaml:"require_secured"`
	// AllowFrom are the only peers that a TCP listener serves.
	AllowFrom []netip.Prefix `yaml:"allow_from"`
	// Insecure lets a TCP listener off loopback do without AllowFrom.
	Insecure bool `yaml:"insecure"`
}

func (l *DovecotListener) setDefaults() {
	l.Kind = "auth"
	l.Mechanisms = []string{"PLAIN", "LOGIN"}
}

// Guard reports ErrExposed when the listener may not serve at addr. Call it with
// the bound address: that of fd:NAME is not known before.
func (l *DovecotListener) Guard(addr net.Addr) error {
	if exposed(addr) && !l.guarded() {
		return ErrExposed
	}
	return nil
}

func (l *DovecotListener) guarded() bool { return l.Insecure || len(l.AllowFrom) > 0 }

// Master is the master user that the proxy logs in with where the mechanism
// showed no password.
type Master struct {
	User string       `yaml:"user"`
	Pass proxy.Secret `yaml:"pass"`
}

// Doveadm is a doveadm server.
type Doveadm struct {
	// URL is http://HOST:PORT, https://HOST:PORT or tcp:HOST:PORT. Required.
	URL string `yaml:"url"`
	// APIKey is doveadm_api_key; HTTP only.
	APIKey proxy.Secret `yaml:"api_key"`
	// Password is doveadm_password; required with tcp.
	Password proxy.Secret `yaml:"password"`
	// Role: proxy, where proxied sessions are; backend, where mail is.
	Role string `yaml:"role" oneof:"proxy backend"`
}

func (d *Doveadm) setDefaults() { d.Role = "proxy" }
