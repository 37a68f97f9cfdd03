package dovecot

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy"
)

// An adminRequest is one line of `doveadm director`.
type adminRequest struct {
	verb     string
	host     string // an address, or the name of a host that has none; "": all
	tag      string
	vhosts   *int
	user     string
	hash     uint32 // instead of user, if byHash
	byHash   bool
	field    string // of USER-KICK-ALT, whose value is in user
	parallel int    // 0: not said
	nowait   bool
}

// Faults of a request, for which the director closes the connection too.
var (
	errAdminVersion = errors.New("handshake: expected version 1 of director-doveadm")
	errAdminVerb    = errors.New("unknown command")
	errAdminParams  = errors.New("bad parameters")
)

// isAdminVersion reports whether line is a version that this server speaks.
func isAdminVersion(line string) bool {
	f := strings.Split(line, "\t")
	if len(f) != 4 || f[0] != "VERSION" || f[1] != "director-doveadm" {
		return false
	}
	major, ok := parseID(f[2])
	_, minor := parseID(f[3])
	return ok && major == 1 && minor
}

// parseAdmin reads a request, which is `VERB[\tPARAMETER]...`. Parameters beyond
// those that a command has are skipped, as the director does.
func parseAdmin(line string) (*adminRequest, error) {
	fields := strings.Split(line, "\t")
	r, args := &adminRequest{verb: fields[0]}, fields[1:]
	for i := range args {
		args[i] = unescape(args[i])
	}
	ok := true
	switch r.verb {
	case "HOST-LIST", "HOST-LIST-REMOVED", "DIRECTOR-LIST":
	case "HOST-UP", "HOST-DOWN", "HOST-REMOVE":
		ok = r.parseHost(arg(args, 0))
	case "HOST-FLUSH", "USER-LIST":
		ok = r.parseHostOrAll(arg(args, 0))
	case "HOST-RESET-USERS":
		ok = r.parseHostOrAll(arg(args, 0)) && (len(args) < 2 || r.parseParallel(args[1]))
	case "HOST-SET":
		ok = r.parseTagged(arg(args, 0)) && (len(args) < 2 || r.parseVhosts(args[1]))
	case "HOST-UPDATE":
		ok = r.parseTagged(arg(args, 0)) && r.parseVhosts(arg(args, 1))
	case "USER-LOOKUP":
		r.tag = arg(args, 1)
		ok = r.parseUser(arg(args, 0)) && validTag(r.tag)
	case "USER-MOVE":
		ok = r.parseUser(arg(args, 0)) && r.parseHost(arg(args, 1))
	case "USER-KICK":
		r.user, r.nowait = arg(args, 0), arg(args, 1) == "nowait"
		ok = proxy.ValidUser(r.user) == nil
	case "USER-KICK-ALT":
		r.field, r.user = arg(args, 0), arg(args, 1)
		ok = proxy.ValidUser(r.field) == nil && proxy.ValidUser(r.user) == nil
	case "DIRECTOR-ADD", "DIRECTOR-REMOVE":
		ok = r.parseAddr(arg(args, 0)) && (len(args) < 2 || parsePort(args[1]) != 0)
	default:
		return nil, errAdminVerb
	}
	if !ok {
		return nil, errAdminParams
	}
	return r, nil
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// parseHost takes an address or, since answers have the names of hosts without one,
// a name.
func (r *adminRequest) parseHost(s string) bool {
	if r.parseAddr(s) {
		return true
	}
	r.host = s
	return proxy.ValidHost(s)
}

// parseAddr takes an address, in brackets or not.
func (r *adminRequest) parseAddr(s string) bool {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	a, err := netip.ParseAddr(s)
	r.host = a.Unmap().String()
	return err == nil && proxy.ValidHost(r.host)
}

func (r *adminRequest) parseHostOrAll(s string) bool { return s == "" || r.parseHost(s) }

// parseTagged takes HOST[@TAG]. An empty tag is none.
func (r *adminRequest) parseTagged(s string) bool {
	host, tag, _ := strings.Cut(s, "@")
	r.tag = tag
	return r.parseHost(host) && validTag(tag)
}

// validTag reports whether s is fit to be a part of an assignment's key, or empty.
func validTag(s string) bool { return s == "" || proxy.ValidUser(s) == nil }

func (r *adminRequest) parseVhosts(s string) bool {
	n, ok := parseID(s)
	v := int(n)
	r.vhosts = &v
	return ok
}

// parseParallel takes a number of users to move at a time.
func (r *adminRequest) parseParallel(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	r.parallel = int(n)
	return err == nil && n > 0
}

// parseUser takes a user's name or, if it is a number, DirectorHash.
func (r *adminRequest) parseUser(s string) bool {
	r.user = s
	r.hash, r.byHash = parseID(s)
	return proxy.ValidUser(s) == nil
}
