// Package moves takes users from one host to another without two hosts ever
// serving one of them: hold the logins, end the sessions, run the site's hook, wait,
// switch, release.
//
// It knows assignments and sessions, and nothing of requests, wire formats or
// configuration.
package moves
