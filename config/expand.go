package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"usher/proxy"
)

// maxSecretFile bounds a file that holds one secret.
const maxSecretFile = 64 << 10

// expand replaces each ${NAME} by the environment variable of that name, once:
// what comes in is not expanded again. $${ stands for a literal ${. The error is
// a *valueError; it names the variable only if hideNames is false.
func expand(s string, hideNames bool) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed || !isVariable(name) {
			return "", &valueError{"${ without a variable name and }", "${VARIABLE}, or $${ for a literal ${"}
		}
		value, set := os.LookupEnv(name)
		if !set {
			if hideNames {
				name = "between ${ and }"
			}
			return "", &valueError{"environment variable " + name + " is not set", "a variable that is set, or $${ for a literal ${"}
		}
		b.WriteString(value)
		s = rest
	}
}

// isVariable: the name of an environment variable (POSIX.1 section 8.1, with
// lower case).
func isVariable(s string) bool {
	return s != "" && len(s) <= 255 && (s[0] < '0' || s[0] > '9') && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
	})
}

// secret reads a secret as it stands in the configuration: the text itself,
// ${VARIABLE}, or file:/PATH. What is asked for must be there and not be empty;
// an empty secret would switch off what it guards. The error is a *valueError;
// it shows names and paths, but only of what is nothing else than a reference.
func secret(s string) (proxy.Secret, error) {
	if name, ok := strings.CutPrefix(s, "file:"); ok {
		return secretFile(name)
	}
	text, err := expand(s, !isReference(s))
	switch {
	case err != nil:
		return proxy.Secret{}, err
	case text == "" && s != "":
		return proxy.Secret{}, &valueError{"the environment variable is empty", "a secret in it"}
	case hasControl(text):
		return proxy.Secret{}, &valueError{"a control byte in the secret", "one line of text"}
	}
	return proxy.NewSecret(text), nil
}

// isReference reports whether s is one ${NAME} and nothing else.
func isReference(s string) bool {
	return strings.HasPrefix(s, "${") && strings.IndexByte(s, '}') == len(s)-1
}

func secretFile(name string) (proxy.Secret, error) {
	name, err := expand(name, false)
	if err != nil {
		return proxy.Secret{}, err
	}
	if !path.IsAbs(name) || hasControl(name) {
		return proxy.Secret{}, &valueError{"file: without an absolute path", "file:/PATH"}
	}
	text, err := readSecret(name)
	if err != nil {
		return proxy.Secret{}, &valueError{"file " + quote(name) + ": " + err.Error(), "a readable file that holds the secret"}
	}
	return proxy.NewSecret(text), nil
}

// readSecret returns a file's content without one newline at its end. Its errors
// do not repeat the name.
func readSecret(name string) (string, error) {
	// Stat first: opening a FIFO would wait for its writer.
	info, err := os.Stat(name)
	if err != nil {
		return "", bare(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return "", bare(err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", bare(err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxSecretFile:
		return "", errors.New("more than 64 KiB")
	case text == "":
		return "", errors.New("empty")
	case hasControl(text):
		return "", errors.New("more than one line, or a control byte")
	}
	return text, nil
}

// bare drops operation and name off a file error.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
