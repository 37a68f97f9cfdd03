// Package passdb finds out who a user is: a Chain asks password drivers in
// order, and implements proxy.Verifier.
//
// It knows passwords, stored hashes and Dovecot's passwd-file. It must not know
// wire formats, Lua, or where a user is taken to. Drivers that need those
// (dovecot, lua) live in the rooms that have them and implement Driver.
package passdb
