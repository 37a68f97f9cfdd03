package passdb

import (
	"context"
	"errors"
	"slices"

	"usher/proxy"
)

// A Directory knows users without their passwords, as Dovecot's userdb look-ups
// want them. A Driver may be one. An error wraps ErrUnknownUser (the next driver
// is asked), proxy.ErrNotServed (the driver has no such knowledge), or is a
// temporary failure.
type Directory interface {
	// Find returns who the user of r is: a PASS.
	Find(ctx context.Context, r *proxy.Request) (proxy.Identity, error)
	// User returns the userdb fields of the user of r: uid, gid, home and others.
	// One named user, if any, is the final user name.
	User(ctx context.Context, r *proxy.Request) ([]proxy.Attr, error)
	// List calls yield with each user name that mask fits (proxy.FitsMask; "":
	// all) until it returns false. It holds no lock meanwhile. After an error the
	// names are not all there are.
	List(ctx context.Context, mask string, yield func(user string) bool) error
}

// directory returns what d knows, or an error that says that it knows nothing.
func directory(d Driver) (Directory, error) {
	if k, ok := d.(Directory); ok {
		return k, nil
	}
	return nil, temporary(d.Name(), proxy.ErrNotServed)
}

// ask calls what with one driver after the other, until one knows the user.
func (c *Chain) ask(what func(d Driver, k Directory) error) error {
	if len(c.drivers) == 0 {
		return errNoDriver
	}
	for _, d := range c.drivers {
		k, err := directory(d)
		if err != nil {
			return err
		}
		switch err := what(d, k); {
		case err == nil:
			return nil
		case !errors.Is(err, ErrUnknownUser):
			return temporary(d.Name(), err)
		}
	}
	return ErrUnknownUser
}

// Find implements proxy.Finder. The first driver that knows the user answers; a
// driver that knows passwords alone, or that fails, is a temporary failure.
func (c *Chain) Find(ctx context.Context, r *proxy.Request) (id proxy.Identity, err error) {
	err = c.ask(func(d Driver, k Directory) error {
		found, err := k.Find(ctx, r)
		if err != nil {
			return err
		}
		if id = found; id.Driver == "" {
			id.Driver = d.Name()
		}
		id.Verified = false
		return nil
	})
	return id, err
}

// User implements Directory, with the drivers asked as by Find.
func (c *Chain) User(ctx context.Context, r *proxy.Request) (fields []proxy.Attr, err error) {
	err = c.ask(func(_ Driver, k Directory) (err error) {
		fields, err = k.User(ctx, r)
		return err
	})
	return fields, err
}

// List implements Directory: the users of all drivers, each once. If a driver
// can't list, nothing is listed: a part would look like the whole.
func (c *Chain) List(ctx context.Context, mask string, yield func(user string) bool) error {
	if len(c.drivers) == 0 {
		return errNoDriver
	}
	known := make([]Directory, len(c.drivers))
	for i, d := range c.drivers {
		var err error
		if known[i], err = directory(d); err != nil {
			return err
		}
		if _, all := d.(Passthrough); all {
			return temporary(d.Name(), proxy.ErrNotServed)
		}
	}
	var seen map[string]struct{} // nil: one driver names each user once
	if len(known) > 1 {
		seen = make(map[string]struct{})
	}
	stopped := false
	for i, k := range known {
		err := k.List(ctx, mask, func(user string) bool {
			if seen != nil {
				if _, double := seen[user]; double {
					return true
				}
				seen[user] = struct{}{}
			}
			stopped = !yield(user)
			return !stopped
		})
		if err != nil {
			return temporary(c.drivers[i].Name(), err)
		}
		if stopped {
			return nil
		}
	}
	return nil
}

// Find implements Directory: it takes every user.
func (p Passthrough) Find(context.Context, *proxy.Request) (proxy.Identity, error) {
	return proxy.Identity{Driver: p.Name()}, nil
}

// User implements Directory: nobody said where a mailbox is.
func (Passthrough) User(context.Context, *proxy.Request) ([]proxy.Attr, error) {
	return nil, proxy.ErrNotServed
}

// List implements Directory: nobody said who there is.
func (Passthrough) List(context.Context, string, func(string) bool) error {
	return proxy.ErrNotServed
}

// Find implements Directory. Fields that say who may log in (nologin, fail,
// allow_nets) are not looked at, as nobody does: a mail for such a user must not
// bounce. The password for the backend stays here.
func (f *PasswdFile) Find(_ context.Context, r *proxy.Request) (proxy.Identity, error) {
	f.refresh()
	user := lower(r.User)
	e, ok := f.users.Load().users[user]
	if !ok {
		return proxy.Identity{}, ErrUnknownUser
	}
	id := proxy.Identity{User: user, Driver: f.Name()}
	if x := e.extra; x != nil {
		id.Fields = slices.Clone(x.fields)
		if x.user != "" {
			id.User = x.user
		}
	}
	return id, nil
}

// User implements Directory.
func (f *PasswdFile) User(_ context.Context, r *proxy.Request) ([]proxy.Attr, error) {
	f.refresh()
	user := lower(r.User)
	e, ok := f.users.Load().users[user]
	if !ok {
		return nil, ErrUnknownUser
	}
	return e.userdb.fields(user)
}

// List implements Directory.
func (f *PasswdFile) List(ctx context.Context, mask string, yield func(user string) bool) error {
	f.refresh()
	n := 0
	for user := range f.users.Load().users {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if (mask == "" || proxy.FitsMask(mask, user)) && !yield(user) {
			return nil
		}
	}
	return nil
}
