// Package dovecot speaks the Dovecot auth protocol (client side of
// doc/auth-protocol.txt, version 1.x) toward login processes, Postfix and Exim:
// standalone, as the auth server itself, or interposed between login processes
// and a real one, to whose replies it adds where to go.
//
// It knows the wire format and package proxy, and neither policies nor
// configuration files.
package dovecot
