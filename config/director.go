package config

import "time"

// Director is the policy and its budgets.
type Director struct {
	// Script is the Lua policy. Empty: the built-in one. It runs in every mode,
	// userdb look-ups included.
	Script string `yaml:"script"`
	// Filters stand instead of Script; all run, in order.
	Filters []Filter `yaml:"filters"`
	// Features run before the password is verified.
	Features []Feature `yaml:"features"`
	// Init are scripts run once at start and at reload.
	Init []string `yaml:"init"`
	// HostAttributes name the result fields that are taken as the host when a
	// policy selects none; the first that is set counts.
	HostAttributes []string `yaml:"host_attributes"`
	// Timeout, Steps and Memory are the budgets of one request.
	Timeout time.Duration `yaml:"timeout" min:"1ms" max:"1m"`
	Steps   int           `yaml:"steps" min:"1" max:"1000000000"`
	Memory  Size          `yaml:"memory" min:"64KiB" max:"1GiB"`
	// PoolSize is the number of Lua states. 0: from GOMAXPROCS.
	PoolSize int `yaml:"pool_size" min:"0" max:"10000"`
	// PackagePath is an extra Lua module path.
	PackagePath string `yaml:"package_path"`
	// Network lets policies use redis, http and dns.
	Network bool `yaml:"network"`
	// Env are the names that os.getenv may read.
	Env []string `yaml:"env"`
	// UnlistedBackends: allow, a policy may name any host; deny, only those of
	// the inventory.
	UnlistedBackends string `yaml:"unlisted_backends" oneof:"allow deny"`
	// AllowIdentity lets policies set master and destuser.
	AllowIdentity bool `yaml:"allow_identity"`
}

// Filter is one policy of several. With none of its when flags set it runs for
// authenticated and for unauthenticated requests.
type Filter struct {
	Name   string `yaml:"name"`   // in decisions and metrics; required, unique
	Script string `yaml:"script"` // Lua file; required

	WhenAuthenticated   bool `yaml:"when_authenticated"`
	WhenUnauthenticated bool `yaml:"when_unauthenticated"`
	WhenNoAuth          bool `yaml:"when_no_auth"`
	// NeedsPassword lets the filter see the password.
	NeedsPassword bool `yaml:"needs_password"`
}

// Feature is a script that is asked before the password.
type Feature struct {
	Name   string `yaml:"name"`   // required, unique
	Script string `yaml:"script"` // Lua file; required
	// NeedsPassword lets it see the password.
	NeedsPassword bool `yaml:"needs_password"`
}
