package passdb

import (
	"context"
	"strings"
	"testing"

	"github.com/go-crypt/crypt/algorithm/argon2"
)

// What scripts compare: stored forms with and without a scheme.
func TestCompare(t *testing.T) {
	h, err := argon2.New(argon2.WithVariantID(), argon2.WithM(64), argon2.WithT(1), argon2.WithP(1))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := h.Hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	id := digest.Encode()
	for name, stored := range map[string]string{
		"plain": "{PLAIN}secret", "argon2id": id, "argon2id with scheme": "{ARGON2ID}" + id,
	} {
		for password, want := range map[string]bool{"secret": true, "Secret": false, "": false} {
			if equal, err := Compare(context.Background(), NewWorkers(), stored, password); equal != want || err != nil {
				t.Errorf("%s, password %q: %v, %v", name, password, equal, err)
			}
		}
	}
	for name, test := range map[string]struct{ stored, password, want string }{
		"none":      {"", "", "no password fits"},
		"locked":    {"!", "", "no password fits"},
		"unknown":   {"{WHATEVER}secret", "secret", "not supported"},
		"long":      {id, strings.Repeat("x", 1025), "1025 bytes"},
		"no argon2": {"$argon2id$secret", "secret", "scheme ARGON2ID"},
	} {
		equal, err := Compare(context.Background(), NewWorkers(), test.stored, test.password)
		if equal || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", name, equal, err)
		}
	}
}
