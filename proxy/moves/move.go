package moves

import (
	"errors"
	"time"

	"usher/proxy/affinity"
)

// A State is how far a move has come.
type State string

// The states. In all but the last three logins of the key are held.
const (
	Queued    State = "queued"    // waits for its turn; see Settings.Parallel
	Kicking   State = "kicking"   // sessions are being ended
	Hooking   State = "hooking"   // the site's hook runs
	Settling  State = "settling"  // Settings.KickDelay passes
	Switching State = "switching" // the key is being assigned to the new host
	Done      State = "done"      // the key is on the new host
	Failed    State = "failed"    // Error says why, and, unless it says else, the key is where it was
	Undone    State = "undone"    // taken back before it was done; the key is where it was
)

// Ended reports whether nothing more will happen.
func (s State) Ended() bool { return s == Done || s == Failed || s == Undone }

// A Move is one key on its way. It is immutable; each step makes another.
type Move struct {
	ID      string         `json:"id"`
	User    string         `json:"user"` // as ordered; the key's name for one of a flush
	Key     affinity.Key   `json:"key"`
	From    string         `json:"from,omitempty"` // canonical; "": no assignment lived
	To      string         `json:"to"`             // canonical
	State   State          `json:"state"`
	Error   string         `json:"error,omitempty"`
	Force   bool           `json:"force,omitempty"`  // go on where sessions can't be ended
	Pin     bool           `json:"pin,omitempty"`    // pin the user at the end
	Pinned  string         `json:"pinned,omitempty"` // host he was pinned to before
	Unpin   bool           `json:"unpin,omitempty"`  // take the pin to From away at the end
	Flush   string         `json:"flush,omitempty"`  // that it is part of
	Undoes  string         `json:"undoes,omitempty"`
	Users   []string       `json:"users,omitempty"` // behind the key when it was ordered; none once it has ended
	Stamp   affinity.Stamp `json:"stamp"`
	Began   time.Time      `json:"began,omitzero"`
	Changed time.Time      `json:"changed"`
}

// A Flush moves all users of a host, or of all hosts, to where the hash sends them
// now.
type Flush struct {
	ID      string         `json:"id"`
	Host    string         `json:"host,omitempty"`    // canonical; "": all
	PerSec  float64        `json:"per_sec,omitempty"` // 0: as fast as moves go
	Force   bool           `json:"force,omitempty"`   // as of Move
	State   State          `json:"state"`             // Kicking while it runs, then Done, Failed or Undone
	Total   int            `json:"total"`             // assignments that it looks at
	Moved   int            `json:"moved"`             // or to be moved, of a dry run
	Stays   int            `json:"stays"`             // those that the hash leaves where they are
	Failed  int            `json:"failed"`            // moves that failed
	Error   string         `json:"error,omitempty"`   // of the last of these
	Stamp   affinity.Stamp `json:"stamp"`
	Changed time.Time      `json:"changed"`
}

// Errors of orders that can't be taken.
var (
	ErrNoMove    = errors.New("no such move")
	ErrMoving    = errors.New("is being moved already")
	ErrOverMoved = errors.New("lives elsewhere by now")
)
