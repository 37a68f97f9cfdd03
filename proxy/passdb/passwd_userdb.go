package passdb

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"usher/proxy"
)

// A userdb is what a line of a passwd-file says of a mailbox, in that file's
// words, so that a million of them are small: uid:gid:home:fields, the fields
// separated by spaces and without their prefix userdb_. "": nothing.
type userdb string

// newUserdb takes uid, gid, home and the extra fields that begin with userdb_
// out of the parts of a line. An eighth field that is empty is the old format,
// with the mail location in the ninth (db-passwd-file.c of Dovecot 2.3).
func newUserdb(parts []string) userdb {
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	var fields []string
	if mail, old := strings.CutPrefix(at(7), ":"); old {
		if mail != "" {
			fields = []string{"mail=" + mail}
		}
	} else {
		for f := range strings.SplitSeq(at(7), " ") {
			if f, ok := strings.CutPrefix(f, "userdb_"); ok {
				fields = append(fields, f)
			}
		}
	}
	all := at(2) + ":" + at(3) + ":" + at(5) + ":" + strings.Join(fields, " ")
	if all == ":::" {
		return ""
	}
	return userdb(all)
}

// fields returns them as an answer to a USER has them; name is the user's. What
// can't be sent is an error.
func (u userdb) fields(name string) ([]proxy.Attr, error) {
	out := []proxy.Attr{{Name: "user", Value: name}}
	if u == "" {
		return out, nil
	}
	parts := strings.SplitN(string(u), ":", 4)
	for i, resolve := range [...]func(string) (string, error){uidOf, gidOf} {
		if parts[i] == "" {
			continue
		}
		n, err := resolve(parts[i])
		if err != nil {
			return nil, err
		}
		out = append(out, proxy.Attr{Name: [...]string{"uid", "gid"}[i], Value: n})
	}
	if parts[2] != "" {
		out = append(out, proxy.Attr{Name: "home", Value: parts[2]})
	}
	for field := range strings.SplitSeq(parts[3], " ") {
		if field == "" {
			continue
		}
		key, value, eq := strings.Cut(field, "=")
		switch {
		case key == "" || len(key) > 64 || hasControl(key):
			return nil, errors.New("a userdb field without a usable name")
		case strings.HasSuffix(key, ":protected"), strings.HasSuffix(key, ":remove"):
			return nil, fmt.Errorf("extra field userdb_%s is not supported", key)
		}
		value, ok := expand(value, name)
		if !ok {
			return nil, fmt.Errorf("extra field userdb_%s: of variables only %%u, %%n, %%d and %%%% are supported", key)
		}
		a := proxy.Attr{Name: key, Value: value, Bare: !eq}
		if i := slices.IndexFunc(out, func(o proxy.Attr) bool { return o.Name == key }); i >= 0 {
			out[i] = a // the last one counts, also against uid, gid and home
		} else {
			out = append(out, a)
		}
	}
	return out, nil
}

// uidOf returns a user's number; text may be the number already.
func uidOf(text string) (string, error) {
	if isNumber(text) {
		return text, nil
	}
	u, err := user.Lookup(text)
	if err != nil {
		return "", fmt.Errorf("uid: %w", err)
	}
	return u.Uid, nil
}

func gidOf(text string) (string, error) {
	if isNumber(text) {
		return text, nil
	}
	g, err := user.LookupGroup(text)
	if err != nil {
		return "", fmt.Errorf("gid: %w", err)
	}
	return g.Gid, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
