// Package test holds the end-to-end tests: mail clients log in through real
// nginx and real Dovecot login processes, both asking a real usher, at real
// Dovecot backends. Package servers runs all of them.
package test
