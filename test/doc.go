// Package test holds the end-to-end tests: mail clients log in through real
// nginx and real Dovecot login processes, both asking a real usher, at real
// Dovecot backends, and authenticate at real Postfix and Exim, which ask usher
// too. Package servers runs all of them.
package test
