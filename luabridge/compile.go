package luabridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/lualib"
)

// maxScript bounds a script's size in bytes.
const maxScript = 1 << 20

// A Script is a file of Lua at its place in the configuration.
type Script struct {
	Name string // for logs; unique among its kind
	Path string // of the file, for error texts
	Text string // Lua source

	NeedsPassword bool // of features: request.password is shown
}

// A Filter is one policy script and the requests that it runs on.
type Filter struct {
	Name string // for logs; unique
	Path string // of the file, for error texts
	Text string // Lua source

	WhenAuthenticated   bool
	WhenUnauthenticated bool // after a refused password, for side effects
	WhenNoAuth          bool // userdb look-ups and the like
	NeedsPassword       bool // request.password is shown
}

// ReadScript reads a script's file; its name is the file's.
func ReadScript(path string) (Script, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Script{}, err
	}
	if !info.Mode().IsRegular() { // others may never end
		return Script{}, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > maxScript {
		return Script{}, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), maxScript)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Script{}, err
	}
	return Script{Name: strings.TrimSuffix(filepath.Base(path), ".lua"), Path: path, Text: string(text)}, nil
}

// ReadFilter is ReadScript for a Filter.
func ReadFilter(path string) (Filter, error) {
	s, err := ReadScript(path)
	return Filter{Name: s.Name, Path: s.Path, Text: s.Text}, err
}

// A script is a compiled policy, and what it names.
type script struct {
	path    string
	dir     string // of path: what names of maps are relative to
	proto   *lua.FunctionProto
	globals []string // that it reads
	texts   []string // that stand in it, fields' names among them
}

func newScript(path, text string) (*script, error) {
	proto, err := lualib.Compile(path, text)
	if err != nil {
		return nil, err
	}
	s := &script{path: path, dir: filepath.Dir(path), proto: proto}
	s.look(proto)
	slices.Sort(s.globals)
	slices.Sort(s.texts)
	s.globals, s.texts = slices.Compact(s.globals), slices.Compact(s.texts)
	return s, nil
}

// look finds the names in a function and in those within it.
func (s *script) look(p *lua.FunctionProto) {
	for _, inst := range p.Code {
		const opShift, maskBx = 26, 1<<18 - 1
		if int(inst>>opShift) == lua.OP_GETGLOBAL {
			if k := int(inst & maskBx); k < len(p.Constants) { // else no instruction but its data
				s.globals = append(s.globals, p.Constants[k].String())
			}
		}
	}
	for _, c := range p.Constants {
		if text, ok := c.(lua.LString); ok {
			s.texts = append(s.texts, string(text))
		}
	}
	for _, f := range p.FunctionPrototypes {
		s.look(f)
	}
}

// moduleName: what may stand in for ? in package_path. No dots in a row, no
// slashes: nothing outside the path can be named.
var moduleName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// maxMissing bounds how many names of modules that are not there are remembered:
// a policy may make them of what clients send.
const maxMissing = 1000

// A module is a file of package_path as it was found first, or why it was not.
type module struct {
	proto *lua.FunctionProto
	err   error
}

// module returns the compiled file of package_path for a name. Files are looked
// for once: a reload looks again.
func (d *Director) module(name string) (*lua.FunctionProto, error) {
	if m, ok := d.files.Load(name); ok {
		m := m.(module)
		return m.proto, m.err
	}
	proto, err := d.find(name)
	if err == nil || d.missing.Add(1) <= maxMissing {
		d.files.Store(name, module{proto, err})
	}
	return proto, err
}

// HasFile reports whether there is a file of that name in package_path.
func (d *Director) HasFile(name string) bool {
	_, err := d.module(name)
	return !errors.Is(err, errNoModule)
}

var errNoModule = errors.New("not found: usher has no such module, and it is not in director.package_path")

func (d *Director) find(name string) (*lua.FunctionProto, error) {
	if !moduleName.MatchString(name) {
		return nil, errNoModule
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
		return lualib.Compile(path, f.Text)
	}
	return nil, errNoModule
}
