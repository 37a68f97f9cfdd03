package proxy

import (
	"path"
	"strings"
	"testing"
)

func TestFitsMask(t *testing.T) {
	for _, tt := range []struct {
		mask, user string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"a", "a", true}, {"a", "ab", false},
		{"a*c", "abbc", true}, {"a*c", "abcb", false}, {"a*c*", "abcb", true}, {"*b?", "abbc", true}, {"**", "x", true},
		{"*a*a*a*", "aa", false}, {"??", "ä", true}, {"\\*", "*", false}, {"A?C", "abc", true}, {"a*", "ABC", true},
	} {
		if got := FitsMask(tt.mask, tt.user); got != tt.want {
			t.Errorf("mask %q, %q: %v", tt.mask, tt.user, got)
		}
	}
}

// path.Match means the same by these masks, but for case, characters, slashes,
// and its own special ones.
func FuzzFitsMask(f *testing.F) {
	f.Add("a*c?", "abcd")
	f.Add("*?*", "")
	f.Fuzz(func(t *testing.T, mask, user string) {
		mask, user = strings.ToLower(mask), strings.ToLower(user)
		odd := func(r rune) bool { return r >= 0x80 || strings.ContainsRune(`/\[]`, r) }
		if len(mask) > 200 || len(user) > MaxUserLen {
			return
		}
		got := FitsMask(mask, user)
		if strings.ContainsFunc(mask, odd) || strings.ContainsFunc(user, odd) {
			return
		}
		want, err := path.Match(mask, user)
		if err != nil || got != want {
			t.Errorf("mask %q, %q: %v, want %v, %v", mask, user, got, want, err)
		}
	})
}
