package dovecot

import "testing"

// The numbers are those of `doveadm director map -u`.
func TestDirectorHash(t *testing.T) {
	for user, want := range map[string]uint32{
		"alice@example.org": 4227319470, "Alice@Example.ORG": 4227319470, "bob@example.org": 279722245,
		"ÄLICE@example.org": 3688365929, "a": 214005177, "x": 2647975009,
	} {
		if got := DirectorHash(user); got != want {
			t.Errorf("DirectorHash(%q) = %d, want %d", user, got, want)
		}
	}
}
