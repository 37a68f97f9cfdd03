package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"usher/proxy/affinity"
)

// KeyOf makes an assignment key's name of what a policy takes for one: in lower
// case, as users' names are.
func KeyOf(text string) (string, error) {
	if err := ValidUser(text); err != nil {
		return "", fmt.Errorf("assignment key: %w", err)
	}
	return affinity.KeyName(text, "", affinity.ByUser), nil
}

// rekey looks the assignment up anew under the key that the policy set, if it set
// one. What the policy saw there stays what a claim goes by: did another login
// claim the key meanwhile, this one takes its host.
func (n *run) rekey(ctx context.Context, v *Verdict) error {
	if v.Key == "" {
		return nil
	}
	n.q.Key.Name, n.seen = v.Key, v.KeyHost
	if n.q.Others == nil {
		return nil
	}
	host, err := n.opt.Assignments.Lookup(ctx, n.q.Key)
	if err != nil {
		return err
	}
	n.q.Assigned = host
	if n.q.Trace != nil {
		n.trace("the policy's key: assignment of %q: %s", v.Key, cmp.Or(host, "none"))
	}
	return nil
}

// later is the temporary failure that a policy asked for. Nobody needs a warning
// of it.
func (n *run) later(v *Verdict) Decision {
	d := n.tempfail(PolicyError, &PolicyFault{Kind: PolicyError, Reported: true, Err: errors.New(cmp.Or(v.TempFailText, "the policy says to try later"))})
	d.By, d.Logs = cmp.Or(v.By, d.By), v.Logs
	return d
}

// others answers what a run's policy asks about assignments.
type others struct{ n *run }

// AssignedUser implements Others.
func (o others) AssignedUser(ctx context.Context, user string) (string, error) {
	return o.AssignedKey(ctx, affinity.KeyName(user, o.n.opt.MasterSeparator, o.n.opt.KeyScope))
}

// AssignedKey implements Others.
func (o others) AssignedKey(ctx context.Context, key string) (string, error) {
	return o.n.opt.Assignments.Lookup(ctx, affinity.Key{Tag: o.n.q.Key.Tag, Name: key})
}

// Assigned implements Others.
func (o others) Assigned(host string) int { return o.n.opt.Assignments.Assigned(host) }
