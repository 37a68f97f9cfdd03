// Package nearest finds the name that somebody may have meant.
package nearest

// Of returns the name with the least edit distance to s, the first of
// equals.
func Of(s string, names []string) string {
	best, least := "", -1
	for _, name := range names {
		if d := distance(s, name); least < 0 || d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with their
// neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(above[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// Likely is Of, or "" when no name is so near that it could be a slip: a third
// of its bytes may differ, and two of a short one, but half of s must be there.
func Likely(s string, names []string) string {
	best := Of(s, names)
	if d := distance(s, best); best == "" || d > max(2, len(best)/3) || 2*d > len(s) {
		return ""
	}
	return best
}
