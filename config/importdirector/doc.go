// Package importdirector reads the configuration of a Dovecot 2.3 proxy with a
// director, as doveconf prints it, and writes the usher.yaml that does the same.
//
// It knows doveconf's grammar, the settings of the director and of what stood
// around it, and usher's keys. It opens no file and no socket, and resolves no
// name. What has no match, or what an operator must look at, comes as notes.
package importdirector
