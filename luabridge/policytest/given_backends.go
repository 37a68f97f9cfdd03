package policytest

import (
	"fmt"
	"path/filepath"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge"
	"usher/proxy"
)

// ports are the usual ones, without and with TLS from the first byte.
var ports = map[string][2]int{
	"imap": {143, 993}, "pop3": {110, 995}, "smtp": {25, 465}, "lmtp": {24, 24}, "sieve": {4190, 4190}, "http": {80, 443},
}

// readBackends reads a list of backends, each of which stands for one entry a
// protocol.
func readBackends(v lua.LValue) ([]*proxy.Server, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("expected a list of backends, got a %s", v.Type())
	}
	servers := []*proxy.Server{}
	for i := 1; i <= t.Len(); i++ {
		b, ok := t.RawGetInt(i).(*lua.LTable)
		if !ok {
			return nil, fmt.Errorf("[%d]: expected a table like {host = \"192.0.2.11\"}", i)
		}
		entries, err := readBackend(b)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		servers = append(servers, entries...)
	}
	return servers, nil
}

func readBackend(t *lua.LTable) (servers []*proxy.Server, err error) {
	s := proxy.Server{Weight: 100}
	protocols := []string{"imap"}
	for _, f := range fields(t) {
		switch f.name {
		case "host":
			s.Host, err = readText(f.value)
		case "port":
			s.Port, err = readNumber(f.value, 1, 65535)
		case "weight":
			s.Weight, err = readNumber(f.value, 0, 1000)
		case "tags":
			s.Tags, err = readTexts(f.value)
		case "protocol", "protocols":
			protocols, err = readTexts(f.value)
		case "tls":
			s.TLS, err = readBool(f.value)
		case "starttls":
			s.StartTLS, err = readBool(f.value)
		case "haproxy_v2":
			s.HAProxyV2, err = readBool(f.value)
		default:
			return nil, unknown("a backend has no", f.name, []string{"host", "port", "weight", "tags", "protocol", "protocols", "tls", "starttls", "haproxy_v2"})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if !proxy.ValidHost(s.Host) {
		return nil, fmt.Errorf("host %q: expected an address or a host name", s.Host)
	}
	for _, p := range protocols {
		usual, ok := ports[p]
		if !ok {
			return nil, unknown("no protocol", p, keys(ports))
		}
		entry := s
		entry.Protocol = p
		if entry.Port == 0 {
			entry.Port = usual[0]
			if s.TLS {
				entry.Port = usual[1]
			}
		}
		servers = append(servers, &entry)
	}
	return servers, nil
}

func readNumber(v lua.LValue, least, most int) (int, error) {
	n, ok := v.(lua.LNumber)
	if !ok || n != lua.LNumber(int(n)) || int(n) < least || int(n) > most {
		return 0, fmt.Errorf("%s: expected a whole number from %d to %d", show(v), least, most)
	}
	return int(n), nil
}

// scripts reads which scripts run: a path, or, unless only is set, a list of
// {name=, script=, when_…=}.
func (s *suite) scripts(v lua.LValue, only bool) ([]luabridge.Filter, error) {
	if text, ok := v.(lua.LString); ok && only {
		f, err := s.script(string(text))
		f.WhenAuthenticated, f.WhenNoAuth = true, true // as director.script
		return []luabridge.Filter{f}, err
	}
	t, ok := v.(*lua.LTable)
	if !ok || only {
		return nil, fmt.Errorf("expected %s, got a %s", map[bool]string{true: "a path", false: "a list"}[only], v.Type())
	}
	list := []luabridge.Filter{}
	for i := 1; i <= t.Len(); i++ {
		f, err := s.filter(t.RawGetInt(i))
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		list = append(list, f)
	}
	return list, nil
}

func (s *suite) filter(v lua.LValue) (f luabridge.Filter, err error) {
	if path, ok := v.(lua.LString); ok {
		v = &lua.LTable{Metatable: lua.LNil}
		v.(*lua.LTable).RawSetString("script", path)
	}
	t, ok := v.(*lua.LTable)
	if !ok {
		return f, fmt.Errorf("expected a table like {name = \"site\", script = \"site.lua\"}")
	}
	path, err := readText(t.RawGetString("script"))
	if err != nil {
		return f, fmt.Errorf("script: %w", err)
	}
	if f, err = s.script(path); err != nil {
		return f, err
	}
	flags := map[string]*bool{
		"when_authenticated": &f.WhenAuthenticated, "when_unauthenticated": &f.WhenUnauthenticated,
		"when_no_auth": &f.WhenNoAuth, "needs_password": &f.NeedsPassword,
	}
	for _, e := range fields(t) {
		switch {
		case e.name == "script":
		case e.name == "name":
			f.Name, err = readText(e.value)
		case flags[e.name] != nil:
			*flags[e.name], err = readBool(e.value)
		default:
			return f, unknown("a filter has no", e.name, append(keys(flags), "script", "name"))
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if !f.WhenAuthenticated && !f.WhenUnauthenticated && !f.WhenNoAuth {
		f.WhenAuthenticated, f.WhenUnauthenticated = true, true
	}
	return f, nil
}

// script reads a policy's file, relative to the test's.
func (s *suite) script(path string) (luabridge.Filter, error) {
	path = s.path(path)
	f, err := luabridge.ReadFilter(path)
	s.used[path] = true
	return f, err
}

func (s *suite) path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(s.file), path)
}

// packagePath is director.package_path, its parts relative to the test's file.
func (s *suite) packagePath(v lua.LValue) (string, error) {
	text, err := readText(v)
	if err != nil {
		return "", err
	}
	var parts []string
	for part := range strings.SplitSeq(text, ";") {
		if part != "" {
			parts = append(parts, s.path(part))
			if !strings.Contains(part, "?") { // a folder
				part = filepath.Join(part, "?.lua")
			}
			s.used[s.path(part)] = true
		}
	}
	return strings.Join(parts, ";"), nil
}
