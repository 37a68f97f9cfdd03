// Package lint says what looks wrong in a policy without running it: globals,
// fields of the request and functions that do not exist, and paths that select
// nothing. What it says are warnings: it knows one file, not what a site means by
// it.
package lint
