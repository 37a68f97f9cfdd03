// Package proxy is the core of usher: what a login request is, what a decision
// is, and the one pipeline that turns the first into the second.
//
// It knows no wire format, no Lua and no configuration file. Its neighbours
// implement the interfaces that stand here (Verifier, Director, Backends,
// Names, Orders, Recorder) and are put together by cmd/usher.
package proxy
