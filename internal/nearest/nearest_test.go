package nearest

import "testing"

func TestOf(t *testing.T) {
	names := []string{"script", "filters", "features", "init", "timeout", "steps", "pool_size", "allow_identity"}
	for in, want := range map[string]string{
		"scirpt": "script", "filter": "filters", "time_out": "timeout", "allow_identiy": "allow_identity",
		"poolsize": "pool_size", "initt": "init",
	} {
		if got := Of(in, names); got != want {
			t.Errorf("Of(%q) = %q, want %q", in, got, want)
		}
		if got := Likely(in, names); got != want {
			t.Errorf("Likely(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Of("x", nil); got != "" {
		t.Errorf("nothing to choose from: %q", got)
	}
	for _, far := range []string{"", "x", "password", "ssspets"} {
		if got := Likely(far, names); got != "" {
			t.Errorf("Likely(%q) = %q", far, got)
		}
	}
	if d := distance("ab", "ba"); d != 1 {
		t.Error("a swap costs", d)
	}
}
