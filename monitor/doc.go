// Package monitor knows the backends: their names, whether they are up, and
// since when.
//
// A Monitor checks every backend of the inventory on a clock of its own and
// publishes what it found as an immutable proxy.View. A Resolver keeps the
// addresses of host names in memory, each for its TTL. They implement
// proxy.Backends and proxy.Names. An Expander makes backends of the entries that
// have an SRV name.
//
// One file is one protocol's check; checks has one function a protocol. All
// connect: TCP, then the PROXY v2 header, then TLS on connect, with the
// certificate verified for the configured host. An entry with starttls is spoken
// to as far as that, one with a deep check as far as a login. check_session.go
// has the order of it, and the bounds of what is read.
//
// The package knows no adapter, no policy and no configuration file, and does
// not decide where users go: it only says what is.
package monitor
