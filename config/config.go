package config

import (
	"time"

	"usher/proxy"
)

// DefaultPath is where the configuration lies when the command line names no
// other file.
const DefaultPath = "/etc/usher/usher.yaml"

// Config is a whole configuration. Load and Default make one; it is not changed
// afterwards, so readers may share it.
type Config struct {
	// StateDir holds the admin overlay, the snapshot of assignments, moves in
	// progress and the audit log.
	StateDir string `yaml:"state_dir"`
	Log      Log    `yaml:"log"`
	Limits   Limits `yaml:"limits"`
	// FailureDelay is how long a refused password waits for its answer, unless
	// an upstream has delayed it already. 0: no delay.
	FailureDelay time.Duration `yaml:"failure_delay" min:"0s" max:"1m"`
	Nginx        Nginx         `yaml:"nginx"`
	Dovecot      Dovecot       `yaml:"dovecot"`
	Director     Director      `yaml:"director"`
	Redis        Redis         `yaml:"redis"`
	// Passdb are the password drivers, asked in order: unknown user, the next
	// one; wrong password, final; a driver's error, a temporary failure.
	Passdb   []Passdb `yaml:"passdb"`
	Affinity Affinity `yaml:"affinity"`
	// Node is this node's name. Empty: the host name.
	Node       string     `yaml:"node"`
	Control    Control    `yaml:"control"`
	Monitoring Monitoring `yaml:"backend_server_monitoring"`

	src *source
}

// Log says what is logged, and how.
type Log struct {
	Level  string `yaml:"level" oneof:"debug info warn error"`
	Format string `yaml:"format" oneof:"json console"`
}

// Limits bound what clients can make usher keep.
type Limits struct {
	// Connections from proxies, over all listeners.
	Connections int `yaml:"connections" min:"1" max:"1000000"`
	// OutstandingPerConnection bounds the unanswered requests of one Dovecot
	// connection.
	OutstandingPerConnection int `yaml:"outstanding_per_connection" min:"1" max:"1000000"`
	// Hold is the longest time a login waits in all before it is told to try
	// later.
	Hold time.Duration `yaml:"hold" min:"100ms" max:"1m"`
}

// Redis is the server that policies and the shared assignment store use.
type Redis struct {
	// Addresses are HOST:PORT or unix:/PATH. Several: a Cluster, or, with
	// SentinelMaster, its Sentinels.
	Addresses []Address    `yaml:"addresses"`
	DB        int          `yaml:"db" min:"0" max:"65535"`
	Username  string       `yaml:"username"`
	Password  proxy.Secret `yaml:"password"`
	TLS       bool         `yaml:"tls"`
	CA        string       `yaml:"ca"`   // file; empty: the system's roots
	Cert      string       `yaml:"cert"` // file, with Key: a client certificate
	Key       string       `yaml:"key"`  // file

	SentinelMaster   string       `yaml:"sentinel_master"`
	SentinelUsername string       `yaml:"sentinel_username"`
	SentinelPassword proxy.Secret `yaml:"sentinel_password"`
	// Prefix stands before every name that usher itself writes.
	Prefix string `yaml:"prefix"`
}

// Passdb is one password driver.
type Passdb struct {
	// Driver is passthrough (nobody compares; the backend will), passwd_file,
	// lua or dovecot. Required.
	Driver string `yaml:"driver" oneof:"passthrough passwd_file lua dovecot"`
	// Path of the file; passwd_file only, and required there.
	Path string `yaml:"path"`
	// Script is a Lua file; lua only, and required there.
	Script string `yaml:"script"`
	// Address of a Dovecot auth socket; dovecot only, and required there.
	Address Address `yaml:"address"`
	// UserdbAddress is the socket for look-ups without a password; dovecot only.
	UserdbAddress Address `yaml:"userdb_address"`
}

// Affinity says how users are kept where they are, and how they are moved.
type Affinity struct {
	// Mode: policy, the policy sees the assignment and may ignore it; enforce, a
	// live assignment wins over what the policy selects; off, none is kept.
	Mode string `yaml:"mode" oneof:"policy enforce off"`
	// Key says what an assignment is kept by: the user name, its part before or
	// its part after the @.
	Key string `yaml:"key" oneof:"user local domain"`
	// Store: memory, with a snapshot in StateDir; or valkey, shared by nodes.
	Store string `yaml:"store" oneof:"memory valkey"`
	// Expire after the last login or refresh. Proxies refresh at half of it.
	Expire     time.Duration `yaml:"expire" min:"2s" max:"720h"`
	MaxEntries int           `yaml:"max_entries" min:"1" max:"1000000000"`
	// KickDelay is how long a moved user's logins wait after the old sessions
	// were ended.
	KickDelay     time.Duration `yaml:"kick_delay" min:"0s" max:"1m"`
	MoveTimeout   time.Duration `yaml:"move_timeout" min:"100ms" max:"1h"`
	ParallelMoves int           `yaml:"parallel_moves" min:"1" max:"100000"`
	// FlushHook is the program run between the end of a moved user's old
	// sessions and the first login at the new host. Empty: none.
	FlushHook string `yaml:"flush_hook"`
}

// Control is how operators and monitoring reach usher.
type Control struct {
	// Address of the admin API: unix:/PATH or fd:NAME. Empty: none.
	Address Address `yaml:"address"`
	// HTTP serves /metrics, /healthz and /readyz. Empty: none.
	HTTP Address    `yaml:"http"`
	TCP  ControlTCP `yaml:"tcp"`
	// Decisions is how many are kept for `usher why`.
	Decisions int `yaml:"decisions" min:"0" max:"1000000"`
}

// ControlTCP is the admin API for other machines.
type ControlTCP struct {
	Address  Address      `yaml:"address"` // empty: none
	Token    proxy.Secret `yaml:"token"`
	TLSCert  string       `yaml:"tls_cert"`  // file
	TLSKey   string       `yaml:"tls_key"`   // file
	ClientCA string       `yaml:"client_ca"` // file; clients must show a certificate of it
}

// Default returns the configuration of an empty file: no listeners, no
// backends, passwords passed through.
func Default() *Config {
	return &Config{
		StateDir:     "/var/lib/usher",
		Log:          Log{Level: "info", Format: "json"},
		Limits:       Limits{Connections: 20000, OutstandingPerConnection: 1000, Hold: time.Minute},
		FailureDelay: 2 * time.Second,
		Director: Director{
			HostAttributes:   []string{"host", "Proxy-Host", "hostip"},
			Timeout:          2 * time.Second,
			Steps:            200000,
			Memory:           16 << 20,
			UnlistedBackends: "allow",
		},
		Redis:  Redis{Prefix: "usher:"},
		Passdb: []Passdb{{Driver: "passthrough"}},
		Affinity: Affinity{
			Mode:          "policy",
			Key:           "user",
			Store:         "memory",
			Expire:        15 * time.Minute,
			MaxEntries:    20000000,
			KickDelay:     2 * time.Second,
			MoveTimeout:   30 * time.Second,
			ParallelMoves: 100,
		},
		Control: Control{
			Address:   Address{Network: "unix", Addr: "/run/usher/control.sock"},
			HTTP:      Address{Network: "tcp", Addr: "127.0.0.1:9780"},
			Decisions: 10000,
		},
		Monitoring: Monitoring{
			Interval:       5 * time.Second,
			Retry:          time.Second,
			Timeout:        5 * time.Second,
			Rise:           1,
			Fall:           3,
			PanicThreshold: 60,
		},
	}
}
