package control

import (
	"time"
)

// Backend is one backend's state.
type Backend struct {
	Protocol  string    `json:"protocol"`
	Backend   string    `json:"backend"` // host:port
	Host      string    `json:"host"`
	Port      int       `json:"port"`
	Address   string    `json:"address,omitempty"` // of the host
	Check     string    `json:"check"`             // up, down, checking, stale
	Since     time.Time `json:"since,omitzero"`    // of Check
	CheckedAt time.Time `json:"checked_at,omitzero"`
	CheckMS   float64   `json:"check_ms"`
	Failing   bool      `json:"failing,omitempty"` // the last check failed
	Kept      bool      `json:"kept,omitempty"`    // up only by panic
	Error     string    `json:"error,omitempty"`   // of the last check, if it failed
	Admin     string    `json:"admin"`             // up, drain, down
	AdminBy   *Stamp    `json:"admin_by,omitempty"`
	Weight    int       `json:"weight"`
	WeightBy  *Stamp    `json:"weight_by,omitempty"`
	Takes     string    `json:"takes"`         // users: all, own, none
	Why       string    `json:"why,omitempty"` // it does not take all
	Users     int       `json:"users"`         // assigned to the host
	PerSecond float64   `json:"decisions_per_second"`
	Tags      []string  `json:"tags,omitempty"`
	SRV       string    `json:"srv,omitempty"` // that it comes from
}

// Stamp says who gave an order, when, and why.
type Stamp struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// BackendOrder is an order for HOST or HOST:PORT.
type BackendOrder struct {
	Target string `json:"target,omitempty"`
	State  string `json:"state,omitempty"`  // up, drain, down; "": as it is
	Weight *int   `json:"weight,omitempty"` // 0-1000, of the host; nil: as it is
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // empty: the name of the caller's user
	DryRun bool   `json:"dry_run,omitempty"`
}

// BackendAnswer says what an order did, or would do.
type BackendAnswer struct {
	Target   string    `json:"target"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Users    int       `json:"users"`    // assigned to the host
	Backends []Backend `json:"backends"` // that the order names, with it
	Warnings []string  `json:"warnings,omitempty"`
}

// BackendAdd is a backend to add at run time: with Like, or without Protocol, the
// entries of a host that is there, under another name; else one entry.
type BackendAdd struct {
	Host     string `json:"host"`
	Like     string `json:"like,omitempty"` // "" without a protocol: the first host of Tag
	Protocol string `json:"protocol,omitempty"`
	Port     int    `json:"port,omitempty"`
	TLS      bool   `json:"tls,omitempty"`
	StartTLS bool   `json:"starttls,omitempty"`
	Weight   *int   `json:"weight,omitempty"` // nil: 100, of a host that is there its own
	Tag      string `json:"tag,omitempty"`
	Reason   string `json:"reason,omitempty"`
	By       string `json:"by,omitempty"`
	DryRun   bool   `json:"dry_run,omitempty"`
}

// BackendRemove takes one out.
type BackendRemove struct {
	Target string `json:"target,omitempty"`
	Force  bool   `json:"force,omitempty"` // though users are assigned there
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// CheckReport is what a check came to.
type CheckReport struct {
	Backend Backend  `json:"backend"` // after it
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Address string   `json:"address,omitempty"` // that it went to
	TookMS  float64  `json:"took_ms"`
	Lines   []string `json:"lines"` // what was said; C: is usher, S: the backend
}
