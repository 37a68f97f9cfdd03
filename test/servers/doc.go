// Package servers runs the real programs that the end-to-end tests log in
// through: nginx, Dovecot as proxy and as backend, usher itself. It has small
// mail clients whose tests read as transcripts.
//
// Servers run in the foreground, as children of the test, on addresses in
// 127.0.0.0/8 and ports below the ephemeral range, with their sockets in short
// folders that other users' processes can enter. What they write is captured,
// and shown when the test fails. Everything ends with the test that started it.
//
// It loads the files of deploy/ that operators copy. It knows usher by its
// command line, configuration file and log only.
package servers
