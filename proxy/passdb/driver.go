package passdb

import (
	"context"

	"usher/proxy"
)

// ErrUnknownUser is wrapped by an error of a Driver that does not know the
// user: the next driver is asked.
var ErrUnknownUser = proxy.ErrUnknownUser

// A Driver is one password database. All methods are safe for concurrent use.
type Driver interface {
	// Name is the driver's name in the configuration; decisions say passdb:NAME.
	Name() string
	// Verifies reports whether the driver compares passwords, or has somebody
	// compare them. Passthrough does not.
	Verifies() bool
	// Lookup returns who the user of r is. It is not called for requests with
	// NoAuth or Upstream. An error that wraps ErrUnknownUser hands over to the
	// next driver; a *proxy.Denial (ErrDenied) is final; any other error is a
	// temporary failure, and no other driver is asked.
	Lookup(ctx context.Context, r *proxy.Request) (proxy.Identity, error)
}

// A decoy is a driver that can spend on a user it does not know what a wrong
// password of one that it knows would have cost, so that the time an answer
// takes does not tell who exists. It returns nil, or the error that a known
// user would have met before the comparison.
type decoy interface {
	decoy(ctx context.Context, r *proxy.Request) error
}

func deny(driver string, why proxy.Reason, text string) error {
	return &proxy.Denial{By: by(driver), Reason: why, Text: text}
}

func by(driver string) string { return "passdb:" + driver }

// withoutPassword reports whether a method proves that the client knows the
// password, or who it is, without showing the password.
func withoutPassword(method string) bool {
	switch method {
	case "apop", "cram-md5", "external":
		return true
	}
	return false
}

// isToken reports whether what a method shows as password is a bearer token: it
// must not be compared with a password.
func isToken(method string) bool { return method == "xoauth2" || method == "oauthbearer" }
