package luabridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
)

// moduleName: what may stand in for ? in package_path. No dots in a row, no
// slashes: nothing outside the path can be named.
var moduleName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// module returns the compiled file of package_path for a name. Files are read
// once: a reload reads them again.
func (d *Director) module(name string) (*lua.FunctionProto, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.files[name]; p != nil {
		return p, nil
	}
	if !moduleName.MatchString(name) {
		return nil, errors.New("not found")
	}
	for pattern := range strings.SplitSeq(d.opt.PackagePath, ";") {
		if pattern == "" {
			continue
		}
		if !strings.Contains(pattern, "?") { // a folder
			pattern += "/?.lua"
		}
		path := strings.ReplaceAll(pattern, "?", strings.ReplaceAll(name, ".", string(os.PathSeparator)))
		f, err := ReadFilter(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := compile(path, f.Text)
		if err != nil {
			return nil, err
		}
		d.files[name] = p
		return p, nil
	}
	return nil, fmt.Errorf("not found: usher has no such module, and it is not in director.package_path")
}

func fieldsOf(script, id string) []zap.Field {
	return []zap.Field{zap.String("script", script), zap.String("id", id)}
}
