// Package policytest runs tests of policies, which are written in Lua:
// `usher test`. Each test has a world of its own around the real pipeline:
// backends with a health, assignments, a clock, maps, an in-memory Redis, and
// answers of HTTP services and DNS. The network is never reached.
package policytest
