package shared

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// ErrAway is wrapped by every error of a store that could not be asked.
var ErrAway = errors.New("the shared store is away")

// awayWords begin answers of a server that can't serve now, though it speaks.
var awayWords = []string{
	"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "MISCONF", "OOM", "BUSY",
	"NOAUTH", "WRONGPASS", "MOVED", "ASK", "LATE",
}

// plain puts an error of the client into words that repeat no secret.
func (db *DB) plain(err error) error {
	if err == nil {
		return nil
	}
	text := db.stars.Replace(err.Error())
	var said *valkey.ValkeyError
	switch {
	case errors.Is(err, ErrAway):
		return err
	case errors.As(err, &said):
		word, _, _ := strings.Cut(text, " ")
		if slices.Contains(awayWords, word) {
			return fmt.Errorf("%w: it says %.200s", ErrAway, text)
		}
		return fmt.Errorf("the shared store says: %.300s", text)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s", ErrAway, db.opt.Timeout)
	}
	return fmt.Errorf("%w: %.300s", ErrAway, text)
}
