// Package test holds the end-to-end tests: mail clients log in through real
// nginx and real Dovecot login processes, both asking a real usher, at real
// Dovecot backends, and authenticate at real Postfix and Exim, which ask usher
// too. Package servers runs all of them.
//
// TestMonitor_TimeToAvoid says, with -v, how long logins are still taken to a
// backend that died. With USHER_TIME_TO_AVOID=1 in the environment the same is
// done with the default settings, which takes a minute.
package test
