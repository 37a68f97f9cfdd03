package passdb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"usher/proxy"
)

// An entry is one user of a passwd-file. It is immutable.
type entry struct {
	password verifier // nil: no password fits
	extra    *extra   // nil: none
	userdb   userdb
}

// extra is what the extra fields of a line say.
type extra struct {
	user       string // user=; "": not renamed
	noPassword bool   // any password but an empty one will do
	disabled   bool   // nologin
	reason     string // reason=, when disabled
	fail       bool
	nets       []netSet     // allow_nets=: each must have the client
	pass       proxy.Secret // pass=: for the backend
	fields     []proxy.Attr
}

// parseEntry reads a line of Dovecot's passwd-file,
// user:password:uid:gid:gecos:home:shell:extra fields (db-passwd-file.c of
// Dovecot 2.3). Fields may be missing from the end. skip is true for comments
// and lines without a user. Errors do not quote the password.
func parseEntry(line string) (user string, e entry, skip bool, err error) {
	if strings.TrimSpace(line) == "" || line[0] == ':' || line[0] == '#' {
		return "", e, true, nil
	}
	parts := strings.SplitN(line, ":", 8)
	if err := proxy.ValidUser(parts[0]); err != nil {
		return "", e, false, err
	}
	// Copies, so that the table does not keep whole lines, passwords included.
	user = strings.Clone(lower(parts[0]))
	e.userdb = newUserdb(parts)
	var faults []error
	if len(parts) > 1 {
		if e.password, err = parsePassword(parts[1]); err != nil {
			faults = append(faults, err)
		}
	}
	// An eighth field that is empty is userdb's alone.
	if len(parts) > 7 && parts[7] != "" && parts[7][0] != ':' {
		if e.extra, err = parseExtra(user, strings.Clone(parts[7])); err != nil {
			faults = append(faults, err)
		} else if _, stored := splitScheme(parts[1]); e.extra.noPassword && stored != "" {
			// A lock (!, *) counts as well: Dovecot lets nobody in here.
			faults = append(faults, errors.New("nopassword, but there is a password"))
		}
	}
	return user, e, false, errors.Join(faults...)
}

// refusedFields change who may log in, as whom or from where in ways that are
// not supported here; to pass them on or to leave them out would open the door.
var refusedFields = []string{
	"allow_real_nets", "delay_until", "domain", "login_user", "noauthenticate",
	"passdb_import", "password", "password_noscheme", "username",
}

// parseExtra reads extra fields: k=v or bare, separated by spaces.
func parseExtra(user, text string) (*extra, error) {
	x := &extra{}
	var faults []error
	for field := range strings.SplitSeq(text, " ") {
		name, value, hasValue := strings.Cut(field, "=")
		if field == "" || strings.HasPrefix(name, "userdb_") {
			continue
		}
		if err := x.add(user, name, value, hasValue); err != nil {
			faults = append(faults, err)
		}
	}
	if x.disabled {
		i := slices.IndexFunc(x.fields, func(a proxy.Attr) bool { return a.Name == "reason" })
		if i >= 0 {
			x.reason = x.fields[i].Value
			x.fields = slices.Delete(x.fields, i, i+1)
		}
	}
	x.fields = slices.Clip(x.fields)
	return x, errors.Join(faults...)
}

func (x *extra) add(user, name, value string, hasValue bool) error {
	switch {
	case name == "" || len(name) > 64 || hasControl(name):
		return errors.New("an extra field without a usable name")
	case slices.Contains(refusedFields, name), strings.HasSuffix(name, ":protected"), strings.HasSuffix(name, ":remove"):
		return fmt.Errorf("extra field %s is not supported", name)
	}
	if x.user != "" {
		user = x.user // Dovecot's variables see the new name from here on
	}
	value, ok := expand(value, user)
	switch {
	case !ok:
		return fmt.Errorf("extra field %s: of variables only %%u, %%n, %%d and %%%% are supported", name)
	case hasControl(value):
		return fmt.Errorf("extra field %s: control byte in the value", name)
	}
	switch name {
	case "user":
		if err := proxy.ValidUser(value); err != nil {
			return fmt.Errorf("extra field user: %w", err)
		}
		x.user = value
	case "nopassword":
		x.noPassword = true
	case "nologin":
		x.disabled = true
	case "fail":
		x.fail = true
	case "pass":
		x.pass = proxy.NewSecret(value)
	case "allow_nets":
		set, err := parseNets(value)
		if err != nil {
			return err
		}
		x.nets = append(x.nets, set)
	default:
		a := proxy.Attr{Name: name, Value: value, Bare: !hasValue}
		if i := slices.IndexFunc(x.fields, func(o proxy.Attr) bool { return o.Name == name }); i >= 0 {
			x.fields[i] = a
		} else {
			x.fields = append(x.fields, a)
		}
	}
	return nil
}

// expand puts in Dovecot's variables: %u the user, %n what stands before the
// @, %d what stands after it.
func expand(value, user string) (string, bool) {
	if !strings.Contains(value, "%") {
		return value, true
	}
	local, domain, _ := strings.Cut(user, "@")
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			b.WriteByte(value[i])
			continue
		}
		if i++; i == len(value) {
			return "", false
		}
		switch value[i] {
		case '%':
			b.WriteByte('%')
		case 'u':
			b.WriteString(user)
		case 'n':
			b.WriteString(local)
		case 'd':
			b.WriteString(domain)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// A netSet is one allow_nets field.
type netSet struct {
	prefixes []netip.Prefix
	local    bool // clients without an address, as Dovecot's word "local" has it
}

func parseNets(value string) (netSet, error) {
	var s netSet
	for text := range strings.SplitSeq(value, ",") {
		switch {
		case text == "":
			continue
		case text == "local":
			s.local = true
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, addrErr := netip.ParseAddr(text)
			if addrErr != nil || a.Zone() != "" {
				return s, errors.New("extra field allow_nets: expected addresses and networks like 192.0.2.0/24, with commas between")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return s, errors.New("extra field allow_nets: a mapped IPv4 network needs 96 bits or more")
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		s.prefixes = append(s.prefixes, p)
	}
	return s, nil
}

// has reports whether a client may come from there. The zero Addr is an
// unknown one.
func (s *netSet) has(client netip.Addr) bool {
	if !client.IsValid() {
		return s.local
	}
	client = client.Unmap().WithZone("")
	return slices.ContainsFunc(s.prefixes, func(p netip.Prefix) bool { return p.Contains(client) })
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// lower folds ASCII letters only, as Dovecot's auth_username_format %Lu does.
func lower(s string) string {
	isUpper := func(c byte) bool { return 'A' <= c && c <= 'Z' }
	for i := range len(s) {
		if !isUpper(s[i]) {
			continue
		}
		b := []byte(s)
		for ; i < len(b); i++ {
			if isUpper(b[i]) {
				b[i] += 'a' - 'A'
			}
		}
		return string(b)
	}
	return s
}
