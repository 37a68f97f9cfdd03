package control

import "time"

// UserStatus is where a user is, and what was ordered for him.
type UserStatus struct {
	User        string       `json:"user"`
	Key         string       `json:"key"`                // of his assignments
	Assigned    string       `json:"assigned,omitempty"` // host of the live assignment
	Assignments []Assignment `json:"assignments,omitempty"`
	Pinned      string       `json:"pinned,omitempty"` // host
	PinnedBy    *Stamp       `json:"pinned_by,omitempty"`
	HeldBy      *Stamp       `json:"held_by,omitempty"`
	Move        *Move        `json:"move,omitempty"` // on its way
}

// Assignment is one that lives.
type Assignment struct {
	Key     string    `json:"key"`
	Tag     string    `json:"tag,omitempty"`
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
	Users   []string  `json:"users,omitempty"` // of sessions, where they are not the key
}

// Move is a user on his way to another host.
type Move struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Key     string    `json:"key"`
	Tag     string    `json:"tag,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to"`
	State   string    `json:"state"` // queued, kicking, hooking, settling, switching, done, failed, undone
	Error   string    `json:"error,omitempty"`
	Force   bool      `json:"force,omitempty"`
	Pin     bool      `json:"pin,omitempty"`
	Flush   string    `json:"flush,omitempty"`  // that it is part of
	Undoes  string    `json:"undoes,omitempty"` // another move
	By      Stamp     `json:"by"`
	Began   time.Time `json:"began,omitzero"`
	Changed time.Time `json:"changed,omitzero"`
	Users   []string  `json:"users,omitempty"`   // behind the key, of a dry run
	DryRun  bool      `json:"dry_run,omitempty"` // nothing was done
	Warning string    `json:"warning,omitempty"` // why sessions can't all be seen
	Done    bool      `json:"done"`              // nothing more will happen
	OK      bool      `json:"ok"`                // the user is where he was to go
}

// UserOrder is an order for one user.
type UserOrder struct {
	User   string `json:"user,omitempty"`
	Host   string `json:"host,omitempty"` // to move or to pin to
	Tag    string `json:"tag,omitempty"`  // of the assignment; "": the one that lives
	Force  bool   `json:"force,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// UserAnswer is what an order for a user came to.
type UserAnswer struct {
	User   string `json:"user"`
	Done   string `json:"done"` // in words
	DryRun bool   `json:"dry_run,omitempty"`
	Move   *Move  `json:"move,omitempty"` // that it set off
}

// KickAnswer is what a kick came to.
type KickAnswer struct {
	User     string    `json:"user"`
	Users    []string  `json:"users"` // names whose sessions were looked for
	Sessions []Session `json:"sessions"`
	DryRun   bool      `json:"dry_run,omitempty"`
}

// Session is one that lived, or lives on.
type Session struct {
	User     string `json:"user"`
	Service  string `json:"service"`
	RemoteIP string `json:"remote_ip,omitempty"`
	Host     string `json:"host,omitempty"` // that it is proxied to
	At       string `json:"at"`             // which Dovecot showed it
}

// FlushOrder moves all users of a host to where the hash sends them.
type FlushOrder struct {
	Host   string  `json:"host"`             // or "all"
	Rate   float64 `json:"rate,omitempty"`   // users a second; 0: as fast as moves go
	Forget bool    `json:"forget,omitempty"` // forget assignments instead: nobody is kicked
	Force  bool    `json:"force,omitempty"`
	Reason string  `json:"reason,omitempty"`
	By     string  `json:"by,omitempty"`
	DryRun bool    `json:"dry_run,omitempty"`
}

// Flush is how far one is.
type Flush struct {
	ID      string    `json:"id,omitempty"`
	Host    string    `json:"host"`
	State   string    `json:"state"` // queued, kicking, done, failed, undone
	Rate    float64   `json:"rate,omitempty"`
	Total   int       `json:"total"` // assignments that it looks at
	Moved   int       `json:"moved"` // of a dry run: to be moved
	Stays   int       `json:"stays"` // that the hash leaves where they are
	Failed  int       `json:"failed"`
	Error   string    `json:"error,omitempty"` // of the last that failed
	By      Stamp     `json:"by"`
	Changed time.Time `json:"changed,omitzero"`
	DryRun  bool      `json:"dry_run,omitempty"`
	Done    bool      `json:"done"` // nothing more will happen
}

// Node is one usher.
type Node struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Ready   bool      `json:"ready"`
	Self    bool      `json:"self"`
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"`
}
