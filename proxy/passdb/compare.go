package passdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Compare reports whether password is the one of a stored form: {SCHEME} and what
// follows, or crypt's. Slow hashes wait for a place among w's: an error that wraps
// ErrOverload says that there was none. Errors name the scheme and never the stored
// form.
func Compare(ctx context.Context, w *Workers, stored, password string) (equal bool, err error) {
	if strings.HasPrefix(stored, "$argon2") { // Nauthilus' scripts have it without a scheme
		stored = "{ARGON2ID}" + stored
	}
	v, err := parsePassword(stored)
	switch {
	case err != nil:
		return false, err
	case v == nil:
		return false, errors.New("no password fits an empty or locked one")
	case v.cost() == "":
		return v.verify(password)
	case len(password) > maxPassword:
		return false, fmt.Errorf("a password of %d bytes; a slow hash is made of at most %d", len(password), maxPassword)
	}
	if over := w.Do(ctx, func() { equal, err = v.verify(password) }); over != nil {
		return false, over
	}
	return equal, err
}
