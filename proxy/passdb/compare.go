package passdb

import (
	"context"
	"errors"
)

// Compare reports whether password is the one of a stored form: {SCHEME} and what
// follows, or crypt's. Slow hashes wait for a place among w's. Errors name the
// scheme and never the stored form.
func Compare(ctx context.Context, w *Workers, stored, password string) (equal bool, err error) {
	v, err := parsePassword(stored)
	switch {
	case err != nil:
		return false, err
	case v == nil:
		return false, errors.New("no password fits an empty or locked one")
	case v.cost() == "":
		return v.verify(password)
	}
	if over := w.Do(ctx, func() { equal, err = v.verify(password) }); over != nil {
		return false, over
	}
	return equal, err
}
