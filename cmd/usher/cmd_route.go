package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"usher/config"
	"usher/control"
	"usher/proxy"
)

func newRoute(f *flags) *cobra.Command {
	var q control.RouteQuery
	c := &cobra.Command{
		Use:   "route USER",
		Short: "Show where a user would go, and why; changes nothing",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.User = args[0]
			if _, err := dryRequest(q); err != nil {
				return usageError{err}
			}
			cl, err := f.client()
			if err != nil {
				return err
			}
			a, err := cl.Route(c.Context(), q)
			if err != nil {
				return err
			}
			if f.json {
				err = printJSON(c.OutOrStdout(), a)
			} else {
				err = printRoute(c.OutOrStdout(), &a)
			}
			if err == nil && a.Outcome != proxy.Routed.String() && a.Outcome != proxy.Passed.String() {
				err = fmt.Errorf("%s would not be routed: %s (%s)%w", a.User, a.Outcome, a.Reason, errShown)
			}
			return err
		},
	}
	c.Flags().StringVar(&q.Protocol, "protocol", "imap", "imap, pop3, smtp, submission, sieve, lmtp or doveadm")
	c.Flags().StringVar(&q.ClientIP, "client-ip", "127.0.0.1", "the client's address")
	c.Flags().BoolVar(&q.Network, "network", false, "let policies reach the network; what they write there stays")
	c.Flags().StringVar(&q.Adapter, "adapter", "", "dovecot or nginx: the proxy that would ask (default: as configured)")
	return c
}

// dryRequest is the request that a login of q would be.
func dryRequest(q control.RouteQuery) (*proxy.Request, error) {
	if err := proxy.ValidUser(q.User); err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(cmp.Or(q.ClientIP, "127.0.0.1"))
	if err != nil {
		return nil, fmt.Errorf("client address %q: expected an IP address", q.ClientIP)
	}
	service := strings.ToLower(q.Protocol)
	switch service {
	case "imap", "pop3", "smtp", "submission", "sieve", "managesieve", "lmtp", "doveadm":
	default:
		return nil, fmt.Errorf("protocol %q: expected imap, pop3, smtp, submission, sieve, lmtp or doveadm", q.Protocol)
	}
	r := &proxy.Request{
		Adapter: cmp.Or(q.Adapter, "dovecot"), Service: service, Protocol: proxy.ProtocolOf(service), Method: "plain",
		User: q.User, Client: netip.AddrPortFrom(ip, 0),
	}
	// lmtp and doveadm ask without a password.
	r.Lookup = service == "lmtp" || service == "doveadm"
	r.NoAuth = r.Lookup
	switch r.Adapter {
	case "dovecot":
	case "nginx":
		if r.Lookup {
			return nil, fmt.Errorf("protocol %q: nginx has none of that name", q.Protocol)
		}
		r.AddressOnly, r.Attempt = true, 1
		r.Headers = http.Header{
			"Auth-Method": {r.Method}, "Auth-User": {q.User}, "Auth-Protocol": {service}, "Auth-Login-Attempt": {"1"}, "Client-Ip": {ip.String()},
		}
	default:
		return nil, fmt.Errorf("adapter %q: expected dovecot or nginx", q.Adapter)
	}
	return r, nil
}

// adapterOf is the adapter that q asks about, or the one that has listeners, of
// both Dovecot's.
func adapterOf(q control.RouteQuery, cfg *config.Config) string {
	if q.Adapter == "" && len(cfg.Dovecot.Listeners) == 0 && len(cfg.Nginx.Listeners) > 0 {
		if p := strings.ToLower(q.Protocol); p != "lmtp" && p != "doveadm" {
			return "nginx"
		}
	}
	return q.Adapter
}

func printRoute(w io.Writer, a *control.RouteAnswer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", a.User, a.Outcome)
	if a.Backend != "" {
		fmt.Fprintf(&b, " to %s", a.Backend)
		if a.Address != "" && !strings.Contains(a.Backend, a.Address) {
			fmt.Fprintf(&b, " (%s)", a.Address)
		}
	}
	fmt.Fprintf(&b, "\n  by      %s\n  reason  %s\n  took    %d µs\n", a.By, a.Reason, a.TookUS)
	if a.Text != "" {
		fmt.Fprintf(&b, "  text    %s\n", a.Text)
	}
	if a.Error != "" {
		fmt.Fprintf(&b, "  error   %s\n", a.Error)
	}
	for i, s := range a.Steps {
		label := "  steps   "
		if i > 0 {
			label = "          "
		}
		b.WriteString(label + s + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
