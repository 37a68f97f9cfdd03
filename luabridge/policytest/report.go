package policytest

import (
	"fmt"
	"io"
	"strings"
)

// Print writes the report for people, with colours if they are wanted.
func (r *Report) Print(w io.Writer, colours bool) error {
	paint := func(code, text string) string {
		if !colours {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	file := ""
	for i := range r.Tests {
		t := &r.Tests[i]
		if t.File != file {
			file = t.File
			b.WriteString(paint("1", file) + "\n")
		}
		mark := map[string]string{"passed": paint("32", "✓"), "failed": paint("31", "✗"), "pending": paint("33", "-")}[t.Status]
		title := t.Title()
		if t.Status == "pending" {
			title += " (pending)"
		}
		fmt.Fprintf(&b, "  %s %s\n", mark, title)
		for _, line := range t.Printed {
			b.WriteString("      " + line + "\n")
		}
		if t.Status != "failed" {
			continue
		}
		fmt.Fprintf(&b, "      %s:\n", paint("1", t.Where))
		for line := range strings.SplitSeq(t.Message, "\n") {
			switch {
			case strings.HasPrefix(line, "- "):
				line = paint("32", line)
			case strings.HasPrefix(line, "+ "):
				line = paint("31", line)
			}
			b.WriteString("        " + line + "\n")
		}
		if len(t.Trace) > 0 {
			b.WriteString("      how the decision came about:\n")
		}
		for _, step := range t.Trace {
			b.WriteString("        " + step + "\n")
		}
	}
	summary := fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
	if r.Pending > 0 {
		summary += fmt.Sprintf(", %d pending", r.Pending)
	}
	code := "32"
	if !r.OK() {
		code = "31"
	}
	fmt.Fprintf(&b, "%s (%.0f ms)\n", paint(code, summary), r.TookMS)
	_, err := io.WriteString(w, b.String())
	return err
}
