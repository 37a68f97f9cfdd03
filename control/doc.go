// Package control is how operators and monitoring reach a running usher: the
// admin API (HTTP and JSON on a unix socket) with its client, and the metrics.
//
// It knows package proxy and declares the Service that it shows; it knows
// neither wire formats nor configuration files.
package control
