// Package shared is what several nodes have in common in a Valkey or Redis: the
// connection to it with its deadlines, small tables that every node has a copy of,
// and the list of nodes that live.
//
// It needs Redis 6 or later: scripts, RESP3 and server-assisted client-side caching
// (CLIENT TRACKING).
package shared
