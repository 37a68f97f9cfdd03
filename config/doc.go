// Package config is usher's typed configuration: it loads the YAML file, lays
// environment overrides and defaults around it, checks the whole and prints it
// without its secrets.
//
// The struct tags are the schema. `yaml` names the key, `min` and `max` bound a
// number, a duration or a size, `oneof` lists the words that a text may be. All
// else (what a key is called in the environment, which keys are known where,
// what `usher config` prints) is derived from them.
//
// Every fault is found in one pass and stands on a line of its own:
//
//	/etc/usher/usher.yaml:12: director.timeout: bad value "2"; expected a duration such as 500ms, 2s or 15m
//
// The package knows the file and what its values must be. It must not know what
// is done with them: it opens no socket, compiles no script, resolves no name.
package config
