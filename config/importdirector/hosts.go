package importdirector

import (
	"fmt"
	"net/netip"
	"strings"

	"usher/proxy"
)

const (
	// maxHosts keeps what is written far below the 4 MiB that usher reads.
	maxHosts = 4096
	// maxTag is the longest tag that usher takes, in bytes.
	maxTag = 64
)

// A host is one backend of director_mail_servers.
type host struct {
	name string // an address or a host name
	tag  string
	word string // the range that it came from; "" when it was written itself
}

// parseHosts reads the value of director_mail_servers (2.3
// src/director/mail-host.c, mail_hosts_parse_and_add): words between spaces, each
// an address, a range FIRST-LAST of at most 256 IPv4 or 65536 IPv6 addresses
// that differ in their last 8 or 16 bits, or a name; then, maybe, @TAG. There
// are neither ports nor weights. twice are hosts that stand there more than once,
// retagged those that have another tag then: usher has one entry and one set of
// tags for a host, and the first counts.
func parseHosts(value string) (hosts []host, twice, retagged []string, err error) {
	first := map[string]host{}
	add := func(h host) error {
		id := proxy.CanonicalHost(h.name)
		if len(hosts)+len(twice)+len(retagged) == maxHosts {
			return fmt.Errorf("more than %d hosts; expected fewer", maxHosts)
		}
		switch f, known := first[id]; {
		case known && f.tag != h.tag:
			retagged = append(retagged, h.name)
		case known:
			twice = append(twice, h.name)
		default:
			first[id] = h
			hosts = append(hosts, h)
		}
		return nil
	}
	for _, word := range strings.Split(value, " ") {
		if word == "" {
			continue
		}
		name, tag, _ := strings.Cut(word, "@")
		if len(tag) > maxTag || strings.ContainsFunc(tag, func(r rune) bool { return r == '@' || r <= ' ' || r == 0x7f || r == '\uFFFD' }) {
			return nil, nil, nil, fmt.Errorf("the tag of %s; expected 1 to %d bytes of text without spaces and @, which is what usher takes", show(name), maxTag)
		}
		low, high, ranged := strings.Cut(name, "-")
		from, okFrom := address(low)
		to, okTo := address(high)
		if !ranged || !okFrom || !okTo {
			h := host{name: name, tag: tag}
			if ip, ok := address(name); ok {
				h.name = ip.String()
			}
			if !proxy.ValidHost(h.name) {
				return nil, nil, nil, fmt.Errorf("%s is neither an address, a range nor a host name; expected one of them, without a port", show(name))
			}
			if err := add(h); err != nil {
				return nil, nil, nil, err
			}
			continue
		}
		if err := checkRange(from, to); err != nil {
			return nil, nil, nil, fmt.Errorf("range %s: %w", show(name), err)
		}
		for ip := from; ; ip = ip.Next() {
			if err := add(host{name: ip.String(), tag: tag, word: word}); err != nil {
				return nil, nil, nil, err
			}
			if ip == to {
				break
			}
		}
	}
	return hosts, twice, retagged, nil
}

// address reads an IP address, IPv6 in brackets too.
func address(s string) (netip.Addr, bool) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
		if !strings.Contains(s, ":") {
			return netip.Addr{}, false
		}
	}
	ip, err := netip.ParseAddr(s)
	return ip, err == nil && ip.Zone() == ""
}

// checkRange refuses what the director refuses.
func checkRange(from, to netip.Addr) error {
	bits := from.BitLen() - 8
	if from.Is6() {
		bits = from.BitLen() - 16
	}
	switch {
	case from.BitLen() != to.BitLen():
		return fmt.Errorf("one end is IPv4, the other IPv6; expected two of a kind")
	case to.Less(from):
		return fmt.Errorf("it ends before it begins; expected the lower address first")
	case netip.PrefixFrom(from, bits).Masked() != netip.PrefixFrom(to, bits).Masked():
		return fmt.Errorf("it is too large; expected addresses that differ in the last %d bits at most", from.BitLen()-bits)
	case from.IsUnspecified():
		return fmt.Errorf("it begins at the unspecified address; expected the address of a host")
	}
	return nil
}
