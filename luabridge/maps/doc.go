// Package maps holds the files that policies look names up in: a key and a value
// a line, millions of them. A Table is one file's content, immutable: its bytes,
// and five bytes of index for each line. A Registry keeps the tables of the
// process and reads files anew that changed.
//
// The package knows nothing of Lua or of requests.
package maps
